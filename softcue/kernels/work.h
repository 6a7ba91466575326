// Pieces of work that know nothing of each other, shared out among threads.
#pragma once

#include <cstdint>
#include <cstdlib>

// A thread's own numbers, taken from the front.
struct Scratch {
    float *next;
    float *take(long count) {
        float *own = next;
        next += count;
        return own;
    }
};

// Runs `work` for every number below `pieces`, each thread with `room` numbers of scratch; 1 where there is no memory for it.
// A thread takes `together` neighbours at a time, by default as many as read the same part of memory and keep all threads at work.
template <typename Call>
int share(const Call &call, long pieces, long room, int32_t threads, void (*work)(const Call &, long, Scratch), long together = 0) {
    int32_t failed = 0;
    if (!together) together = pieces / (8 * threads) + 1;
#pragma omp parallel num_threads(threads) if (pieces > 1) reduction(| : failed)
    {
        float *own = static_cast<float *>(std::malloc((room + 1) * sizeof(float)));
        failed = own == nullptr;
#pragma omp for schedule(dynamic, together)
        for (long i = 0; i < pieces; i++)
            if (own) work(call, i, {own});
        std::free(own);
    }
    return failed;
}
