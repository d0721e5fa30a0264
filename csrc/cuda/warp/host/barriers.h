// Counting barriers: what sync_block, named barriers and mbarriers have in common.
#pragma once

#include <cstdint>

#include "clocks.h"
#include "sanitizers.h"

namespace warp::host {

struct Barrier {
    int needed = 0;   // arrivals that complete a phase
    int arrived = 0;  // in the current phase
    uint32_t phase = 0;
    Knowledge arriving;  // what those who arrived in this phase knew
    Knowledge passed;    // the same of the phase before: what waiting for it teaches
    char tsan_token[2] = {0, 0};

    void* token(uint32_t of_phase) { return &tsan_token[of_phase & 1]; }

    void arrive(Actor& actor) {
        tsan_release(token(phase));
        actor.release(arriving);
        ++arrived;
    }
    void complete_phase() {
        arrived = 0;
        passed = std::move(arriving);
        arriving = Knowledge{};
        ++phase;
    }
};

}  // namespace warp::host
