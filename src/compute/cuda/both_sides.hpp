// Marks plain code that is compiled for both sides: into the kernels of cards, and into tests on the
// processor. Includes nothing where a card's run-time compiler reads it.
#pragma once

#ifdef __CUDACC__
#define DEPTHLENS_BOTH_SIDES __host__ __device__ inline
#else
#define DEPTHLENS_BOTH_SIDES inline
#endif
