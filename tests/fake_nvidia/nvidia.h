/* What the script of the fakes of libnvidia-ml.so.1 and libcuda.so.1 says besides ../fake_libraries/script.h:

     nvml_init CODE, cuda_init CODE      of initialisation; -1 lets the process that asks CUDA die
     confidential NUMBER                 whether confidential computing is on; it is unknown without this line
     cuda_order INDEX ...                of the GPUs, in CUDA's order
     cuda_shows INDEX                    the GPU that CUDA shows, whatever is chosen
     cuda_lost WHAT                      0: CUDA shows a lost GPU, 1: leaves it out, 2: does not start where it sees it
     gpu, mig                            begins a GPU, or an instance on it; what follows is of it
     uuid, name, serial, part, vbios TEXT
     pci DOMAIN:BUS                      in hex
     memory, free, sms, l2, max_clock, ecc, ecc_pending, mig_mode, gi, ci NUMBER
     power_limit, default_limit, max_limit, app_clock, persistence, compute NUMBER
     rows_corrected, rows_uncorrected, rows_pending, rows_failed NUMBER    remapped rows; unknown without rows_pending
     virtualization NUMBER               of nvmlGpuVirtualizationMode_t: 1 pass-through, 2 in a vGPU guest
     pci_ids NUMBER                      device and vendor id, e.g. 0x20f110de
     capability MAJOR MINOR
     clock, power, temperature, usage, reasons, uncorrected, processes, lost, xid CURVE

   Of an answer, 13 is "function not found". `lost` is 1, or the code that NVML answers of the GPU. A reading of a GPU
   begins with its clock. An xid is told once. */
#define SCRIPT "FAKE_NVIDIA"
#define DEVICE "gpu"
#define PART "mig"
#define LIBRARY_WORDS " nvml_init cuda_init confidential cuda_order cuda_shows cuda_lost "
#define WORDS                                                                                                     \
  " uuid name serial part vbios pci memory free sms l2 max_clock ecc ecc_pending mig_mode gi ci power_limit "      \
  "default_limit max_limit app_clock persistence compute virtualization pci_ids capability clock power temperature " \
  "usage reasons uncorrected processes lost xid rows_corrected rows_uncorrected rows_pending rows_failed "
#include "script.h"

static inline long lost(struct device *d) { return whole_of(d->parent ? d->parent : d, "lost", 0); }

static inline void place_of(struct device *d, unsigned *domain, unsigned *bus) {
  *domain = *bus = 0;
  sscanf(text_of(d, "pci", ""), "%x:%x", domain, bus);
}
