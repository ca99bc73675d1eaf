// STREAM's triad in double precision: a = b + s c, two values a thread. THREADS is defined by kernels/triad.py.

extern "C" __global__ void __launch_bounds__(THREADS)
triad_fp64(double2 *a, const double2 *b, const double2 *c, double s, long long pairs) {
  const long long i = blockIdx.x * (long long)THREADS + threadIdx.x;
  if (i >= pairs) return;
  const double2 x = b[i], y = c[i];
  a[i] = make_double2(fma(s, y.x, x.x), fma(s, y.y, x.y));
}
