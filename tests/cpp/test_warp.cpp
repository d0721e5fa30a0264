// The host twin of the lane layer: its primitives compute what they should, and each kind of mistake is a Fault.
// `test_warp race barrier` (or release, acquire, nothing) runs a kernel that lacks it, without the twin's own checks.
#include "test_warp.h"

int main(int argc, char** argv) {
    if (argc == 3 && std::string(argv[1]) == "race") {
        run_race_unchecked(argv[2]);
        return 0;
    }
    test_half_precision();
    test_primitives();
    test_races();
    test_addresses();
    test_barrier_faults();
    test_copy_faults();
    test_machine();
    std::puts("ok");
}
