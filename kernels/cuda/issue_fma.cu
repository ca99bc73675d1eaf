// How fast the vector units issue fused multiply-adds: chains in registers, nothing but FMA in the loop.
// THREADS, ACCUMULATORS and UNROLL are defined by kernels/issue_rate.py.

template <class T>
static __device__ __forceinline__ void issue(const T *a, const T *b, T *d, int rounds) {
  const int thread = blockIdx.x * THREADS + threadIdx.x, threads = gridDim.x * THREADS;
  const T x = a[thread];
  T y[ACCUMULATORS], sums[ACCUMULATORS] = {};
#pragma unroll
  for (int i = 0; i < ACCUMULATORS; ++i) y[i] = b[i * threads + thread];
#pragma unroll 1
  for (int round = 0; round < rounds; ++round)
#pragma unroll
    for (int step = 0; step < UNROLL; ++step)
#pragma unroll
      for (int i = 0; i < ACCUMULATORS; ++i) {
        if constexpr (sizeof(T) == 8)
          asm volatile("fma.rn.f64 %0, %1, %2, %0;" : "+d"(sums[i]) : "d"(x), "d"(y[i]));
        else
          asm volatile("fma.rn.f32 %0, %1, %2, %0;" : "+f"(sums[i]) : "f"(x), "f"(y[i]));
      }
#pragma unroll
  for (int i = 0; i < ACCUMULATORS; ++i) d[i * threads + thread] = sums[i];
}

// a: [threads], b: [ACCUMULATORS][threads]; d: [ACCUMULATORS][threads].
extern "C" __global__ void __launch_bounds__(THREADS, 1)
issue_fma_fp64(const double *a, const double *b, double *d, int rounds) {
  issue(a, b, d, rounds);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
issue_fma_fp32(const float *a, const float *b, float *d, int rounds) {
  issue(a, b, d, rounds);
}
