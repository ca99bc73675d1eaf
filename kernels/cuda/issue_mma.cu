// How fast the tensor cores issue mma.sync: every operand is in registers before the loop, nothing but mma is in it.
// THREADS, ACCUMULATORS and UNROLL are defined by kernels/issue_rate.py, which also knows the fragments' layouts.
// Operand i of all threads lies together: element [i][thread].

struct half2x4 { unsigned int x, y, z, w; };  // the A fragment of m16n8k16 in fp16: 8 values
struct half2x2 { unsigned int x, y; };        // its B fragment: 4 values

static __device__ __forceinline__ void multiply(float (&d)[4], const half2x4 &a, const half2x2 &b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}

static __device__ __forceinline__ void multiply(double (&d)[2], const double (&a)[1], const double (&b)[1]) {
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
               : "+d"(d[0]), "+d"(d[1])
               : "d"(a[0]), "d"(b[0]));
}

#if __CUDA_ARCH__ == 900  // elsewhere it is made of m8n8k4
static __device__ __forceinline__ void multiply(double (&d)[4], const double (&a)[8], const double (&b)[4]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64 {%0,%1,%2,%3}, {%4,%5,%6,%7,%8,%9,%10,%11}, "
               "{%12,%13,%14,%15}, {%0,%1,%2,%3};"
               : "+d"(d[0]), "+d"(d[1]), "+d"(d[2]), "+d"(d[3])
               : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(a[4]), "d"(a[5]), "d"(a[6]), "d"(a[7]),
                 "d"(b[0]), "d"(b[1]), "d"(b[2]), "d"(b[3]));
}
#endif

template <class A, class B, class D>
static __device__ __forceinline__ void accumulate(D (&sums)[ACCUMULATORS], const A &a, const B (&b)[ACCUMULATORS],
                                                  int rounds) {
#pragma unroll 1
  for (int round = 0; round < rounds; ++round)
#pragma unroll
    for (int step = 0; step < UNROLL; ++step)
#pragma unroll
      for (int i = 0; i < ACCUMULATORS; ++i) multiply(sums[i], a, b[i]);
}

// a: [4][threads], b: [ACCUMULATORS][2][threads] pairs of fp16; d: [ACCUMULATORS][4][threads] sums.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
issue_mma_fp16_m16n8k16(const unsigned int *a, const unsigned int *b, float *d, int rounds) {
  const int thread = blockIdx.x * THREADS + threadIdx.x, threads = gridDim.x * THREADS;
  const half2x4 x = {a[thread], a[threads + thread], a[2 * threads + thread], a[3 * threads + thread]};
  half2x2 y[ACCUMULATORS];
  float sums[ACCUMULATORS][4] = {};
#pragma unroll
  for (int i = 0; i < ACCUMULATORS; ++i) y[i] = {b[2 * i * threads + thread], b[(2 * i + 1) * threads + thread]};
  accumulate(sums, x, y, rounds);
#pragma unroll
  for (int i = 0; i < ACCUMULATORS * 4; ++i) d[i * threads + thread] = sums[i / 4][i % 4];
}

template <int A, int B, int D>
static __device__ __forceinline__ void issue_fp64(const double *a, const double *b, double *d, int rounds) {
  const int thread = blockIdx.x * THREADS + threadIdx.x, threads = gridDim.x * THREADS;
  double x[A], y[ACCUMULATORS][B], sums[ACCUMULATORS][D] = {};
#pragma unroll
  for (int i = 0; i < A; ++i) x[i] = a[i * threads + thread];
#pragma unroll
  for (int i = 0; i < ACCUMULATORS * B; ++i) y[i / B][i % B] = b[i * threads + thread];
  accumulate(sums, x, y, rounds);
#pragma unroll
  for (int i = 0; i < ACCUMULATORS * D; ++i) d[i * threads + thread] = sums[i / D][i % D];
}

// a: [1][threads], b: [ACCUMULATORS][1][threads]; d: [ACCUMULATORS][2][threads].
extern "C" __global__ void __launch_bounds__(THREADS, 1)
issue_mma_fp64_m8n8k4(const double *a, const double *b, double *d, int rounds) {
  issue_fp64<1, 1, 2>(a, b, d, rounds);
}

#if __CUDA_ARCH__ == 900  // elsewhere it is made of m8n8k4
// a: [8][threads], b: [ACCUMULATORS][4][threads]; d: [ACCUMULATORS][4][threads].
extern "C" __global__ void __launch_bounds__(THREADS, 1)
issue_mma_fp64_m16n8k16(const double *a, const double *b, double *d, int rounds) {
  issue_fp64<8, 4, 4>(a, b, d, rounds);
}
#endif
