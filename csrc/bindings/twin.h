// What the Python modules of host twins share. They are built for tests only, one per op (`<op>_twin`), and are never
// installed; docs/host-twin.md.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "warp/warp.h"

namespace py = pybind11;

namespace twin {

template <class T>
T* pointer(uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

// seed, resident, check, mutant, max_operations; an unknown name is a TypeError.
inline warp::host::Options options(const py::kwargs& kwargs) {
    warp::host::Options options;
    for (const auto& [key, value] : kwargs) {
        const std::string name = py::cast<std::string>(key);
        if (name == "seed") {
            options.seed = py::cast<uint32_t>(value);
        } else if (name == "resident") {
            options.resident = py::cast<int>(value);
        } else if (name == "check") {
            options.check = py::cast<bool>(value);
        } else if (name == "mutant") {
            options.mutant = py::cast<int>(value);
        } else if (name == "max_operations") {
            options.max_operations = py::cast<int64_t>(value);
        } else {
            throw py::type_error("the host twin has no option '" + name + "'");
        }
    }
    return options;
}

// Fault as a Python exception, Stats as a class. Local to the module, so that several modules live side by side.
inline void add_host_twin(py::module_& m) {
    py::register_local_exception<warp::host::Fault>(m, "Fault", PyExc_RuntimeError);
    using warp::host::Stats;
    py::class_<Stats>(m, "Stats", py::module_local())
        .def_readonly("operations", &Stats::operations)
        .def_readonly("mma", &Stats::mma)
        .def_readonly("ldmatrix", &Stats::ldmatrix)
        .def_readonly("bulk_copies", &Stats::bulk_copies)
        .def_readonly("bulk_bytes", &Stats::bulk_bytes)
        .def_readonly("global_bytes", &Stats::global_bytes)
        .def_readonly("global_sectors", &Stats::global_sectors)
        .def_readonly("load_ways", &Stats::load_ways)
        .def_readonly("store_ways", &Stats::store_ways)
        .def_readonly("ldmatrix_ways", &Stats::ldmatrix_ways)
        .def_readonly("atomic_ways", &Stats::atomic_ways);
}

}  // namespace twin
