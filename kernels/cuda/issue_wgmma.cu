// How fast Hopper's tensor cores issue wgmma (sm_90a only): A in registers, B in shared memory, sums in registers.
// THREADS and UNROLL are defined by kernels/issue_rate.py. Never run on hardware yet: see docs/kernels.md.

#define SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define SUMS_64(i) SUMS_16(i), SUMS_16(i + 16), SUMS_16(i + 32), SUMS_16(i + 48)

// scale-d, then imm-scale-a, imm-scale-b and trans-b: add to the sums, nothing negated, B as columns of K.
static __device__ __forceinline__ void multiply(float (&d)[128], const unsigned int (&a)[4], unsigned long long b) {
  asm volatile("{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 "
               "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
               " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
               " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
               " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
               " %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
               " %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
               " %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
               " %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
               "{%128, %129, %130, %131}, %132, add, 1, 1, 0;\n}"
               : SUMS_64(0), SUMS_64(64)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// Descriptor of a 256 x 16 tile of fp16 whose 8 x 8 core matrices (128 contiguous bytes) lie 128 bytes apart along K and
// 256 along N; no swizzle, so bits 62 and 63 are 0. Addresses and strides count in units of 16 bytes.
static __device__ __forceinline__ unsigned long long describe(const void *tile) {
  const unsigned long long address = (unsigned int)__cvta_generic_to_shared(tile);
  return (address & 0x3ffff) >> 4 | 128ull >> 4 << 16 | 256ull >> 4 << 32;
}

// a: [4][threads] pairs of fp16; core: 8 x 8 fp16, the one core matrix of which all of B is made; d: [128][threads].
extern "C" __global__ void __launch_bounds__(THREADS, 1)
issue_wgmma_fp16_m64n256k16(const unsigned int *a, const unsigned int *core, float *d, int rounds) {
  __shared__ __align__(128) unsigned int tile[256 * 16 / 2];
  for (int i = threadIdx.x; i < 256 * 16 / 2; i += THREADS) tile[i] = core[i % 32];
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // the tensor core reads what was just written
  __syncthreads();
  const unsigned long long b = describe(tile);
  const int thread = blockIdx.x * THREADS + threadIdx.x, threads = gridDim.x * THREADS;
  const unsigned int x[4] = {a[thread], a[threads + thread], a[2 * threads + thread], a[3 * threads + thread]};
  float sums[128] = {};
#pragma unroll 1
  for (int round = 0; round < rounds; ++round) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int step = 0; step < UNROLL; ++step) multiply(sums, x, b);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  }
#pragma unroll
  for (int i = 0; i < 128; ++i) d[i * threads + thread] = sums[i];
}
