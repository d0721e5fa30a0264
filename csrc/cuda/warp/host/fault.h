// A Fault is what the host twin throws: a race, a read too early, an overrun, a deadlock. Its text names block, warp
// and source line of both sides.
#pragma once

#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>

namespace warp::host {

using Where = std::source_location;  // the line that called a primitive

struct Fault : std::runtime_error {
    using runtime_error::runtime_error;
};

// "kernel.cuh:12", without folders, so that a message is the same on every machine.
inline std::string place(const Where& where) {
    const std::string file = where.file_name();
    return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(where.line());
}

inline std::string warp_name(uint32_t slot);  // "block 0 warp 2"
inline std::string whereabouts();             // "block 0 warp 2 at kernel.cuh:12: ", or nothing outside a kernel

template <class... Parts>
std::string text(const Parts&... parts) {
    std::ostringstream stream;
    (stream << ... << parts);
    return stream.str();
}

template <class... Parts>
[[noreturn]] void fault(const Parts&... parts) {
    throw Fault(text(whereabouts(), parts...));
}

}  // namespace warp::host
