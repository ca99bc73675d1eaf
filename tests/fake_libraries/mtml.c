/* A fake libmtml.so: as much of MTML as petaseal calls (mtml.h 2.2), answering as FAKE_MTML's script says (script.h).

   power is in mW, memory in bytes, temperature in degrees Celsius; `mpc` 1 is a parent, 2 an instance (a `part` of it),
   `virt` 1 a virtual GPU on its host, 2 in its guest, then `whole` is the uuid of the card. Handles of another kind than
   a function takes are refused, as are those that were freed. */
#define SCRIPT "FAKE_MTML"
#define LIBRARY_WORDS " version "
#define WORDS                                                                                                          \
  " name uuid serial bios vbios sbdf segment bus slot memory cores max_clock power clock temperature usage ecc "       \
  "ecc_pending uncorrected mpc virt whole "
#include "script.h"

enum { FAILURE = 2, INVALID, NOT_SUPPORTED, INSUFFICIENT_SIZE = 6, NOT_FOUND };
struct pci {
  char sbdf[32];
  unsigned segment, bus, device, id, subsystem, width;
  float max_speed, speed;
  unsigned max_width, now_width, max_gen, gen;
  int reserved[6];
};
struct property { unsigned virt_cap : 1, virt_role : 3, mpc_cap : 1, mpc_type : 3, link_cap : 1, rest : 23, more; };
const unsigned fake_sizes[] = {sizeof(struct pci), sizeof(struct property)};

struct handle { enum { NONE, LIBRARY, SYSTEM, DEVICE_OF, GPU, MEMORY } kind; struct device *device; };
#define MOST_HANDLES 65536
static struct handle handles[MOST_HANDLES], parents[MOST_DEVICES]; /* parents: the library's own, never to be freed */
static int handle_count;
int fake_open_handles(void) {
  int open = 0;
  for (int i = 0; i < handle_count; i++) open += handles[i].kind != NONE;
  return open;
}

static int made(int kind, struct device *device, struct handle **into) {
  if (handle_count == MOST_HANDLES) return FAILURE;
  handles[handle_count] = (struct handle){kind, device};
  *into = &handles[handle_count++];
  return 0;
}
static int is_made(struct handle *h) { return h >= handles && h < handles + handle_count; }
static int is_known(struct handle *h) { return is_made(h) || (h >= parents && h < parents + MOST_DEVICES); }
static struct device *of(struct handle *h) { return is_known(h) ? h->device : NULL; }
#define ASK(h, wanted)                                                                                                 \
  do {                                                                                                                 \
    int code_ = asked(__func__, of(h));                                                                                \
    if (code_) return code_;                                                                                           \
    if (!is_known(h) || (h)->kind != (wanted)) return INVALID;                                                         \
  } while (0)
#define FREE(h, wanted) do { ASK(h, wanted); if (!is_made(h)) return INVALID; (h)->kind = NONE; return 0; } while (0)

static int text(struct handle *h, const char *word, char *into, unsigned size) {
  int length = copy_text(h->device, word, into, size);
  return length > 0 ? 0 : length ? INSUFFICIENT_SIZE : NOT_SUPPORTED;
}
static int number(struct handle *h, const char *word, unsigned *into) {
  if (!has(h->device, word)) return NOT_SUPPORTED;
  *into = (unsigned)whole_of(h->device, word, 0);
  return 0;
}

int mtmlLibraryInit(struct handle **into) {
  read_script();
  int code = asked(__func__, NULL);
  return code ? code : made(LIBRARY, NULL, into);
}
int mtmlLibraryShutDown(struct handle *lib) { FREE(lib, LIBRARY); }
int mtmlLibraryGetVersion(struct handle *lib, char *into, unsigned size) {
  ASK(lib, LIBRARY);
  return snprintf(into, size, "%s", text_of(&library, "version", "2.2.0")) < (int)size ? 0 : INSUFFICIENT_SIZE;
}
int mtmlLibraryInitSystem(struct handle *lib, struct handle **into) { ASK(lib, LIBRARY); return made(SYSTEM, NULL, into); }
int mtmlLibraryFreeSystem(struct handle *system) { FREE(system, SYSTEM); }
int mtmlSystemGetDriverVersion(struct handle *system, char *into, unsigned size) {
  ASK(system, SYSTEM);
  return snprintf(into, size, "%s", FAKE_DRIVER) < (int)size ? 0 : INSUFFICIENT_SIZE;
}
int mtmlLibraryCountDevice(struct handle *lib, unsigned *count) {
  ASK(lib, LIBRARY);
  *count = whole_of(&library, "count", device_count);
  library.reads++;
  return 0;
}
int mtmlLibraryInitDeviceByIndex(struct handle *lib, unsigned index, struct handle **into) {
  if (index >= (unsigned)device_count) return NOT_FOUND;
  int code = asked(__func__, &devices[index]);
  if (code) return code;
  ASK(lib, LIBRARY);
  return made(DEVICE_OF, &devices[index], into);
}
int mtmlLibraryFreeDevice(struct handle *d) { FREE(d, DEVICE_OF); }
int mtmlDeviceInitGpu(struct handle *d, struct handle **into) { ASK(d, DEVICE_OF); return made(GPU, d->device, into); }
int mtmlDeviceFreeGpu(struct handle *gpu) { FREE(gpu, GPU); }
int mtmlDeviceInitMemory(struct handle *d, struct handle **into) { ASK(d, DEVICE_OF); return made(MEMORY, d->device, into); }
int mtmlDeviceFreeMemory(struct handle *memory) { FREE(memory, MEMORY); }

int mtmlDeviceGetName(struct handle *d, char *into, unsigned size) { ASK(d, DEVICE_OF); return text(d, "name", into, size); }
int mtmlDeviceGetUUID(struct handle *d, char *into, unsigned size) { ASK(d, DEVICE_OF); return text(d, "uuid", into, size); }
int mtmlDeviceGetSerialNumber(struct handle *d, unsigned size, char *into) {
  ASK(d, DEVICE_OF);
  return text(d, "serial", into, size);
}
int mtmlDeviceGetMtBiosVersion(struct handle *d, char *into, unsigned size) { ASK(d, DEVICE_OF); return text(d, "bios", into, size); }
int mtmlDeviceGetVbiosVersion(struct handle *d, char *into, unsigned size) { ASK(d, DEVICE_OF); return text(d, "vbios", into, size); }
int mtmlDeviceGetPhyDeviceUuid(struct handle *d, char *into, unsigned size) { ASK(d, DEVICE_OF); return text(d, "whole", into, size); }
int mtmlDeviceGetMpcParentDevice(struct handle *d, struct handle **into) {
  ASK(d, DEVICE_OF);
  if (!d->device->parent) return NOT_SUPPORTED;
  *into = &parents[index_of(d->device->parent)];
  **into = (struct handle){DEVICE_OF, d->device->parent};
  return 0;
}
int mtmlDeviceGetPciInfo(struct handle *d, struct pci *pci) {
  ASK(d, DEVICE_OF);
  if (!has(d->device, "sbdf") && !has(d->device, "bus")) return NOT_SUPPORTED;
  memset(pci, 0, sizeof *pci);
  copy_text(d->device, "sbdf", pci->sbdf, sizeof pci->sbdf);
  pci->segment = whole_of(d->device, "segment", 0), pci->bus = whole_of(d->device, "bus", 0);
  pci->device = whole_of(d->device, "slot", 0);
  return 0;
}
int mtmlDeviceGetProperty(struct handle *d, struct property *property) {
  ASK(d, DEVICE_OF);
  memset(property, 0, sizeof *property);
  property->mpc_cap = has(d->device, "mpc"), property->mpc_type = whole_of(d->device, "mpc", 0);
  property->virt_cap = has(d->device, "virt"), property->virt_role = whole_of(d->device, "virt", 0);
  return 0;
}
int mtmlDeviceCountGpuCores(struct handle *d, unsigned *cores) { ASK(d, DEVICE_OF); return number(d, "cores", cores); }
int mtmlDeviceGetPowerUsage(struct handle *d, unsigned *mw) {
  if (of(d)) of(d)->reads++; /* with which a reading begins */
  ASK(d, DEVICE_OF);
  return number(d, "power", mw);
}
int mtmlGpuGetTemperature(struct handle *gpu, int *celsius) { ASK(gpu, GPU); return number(gpu, "temperature", (unsigned *)celsius); }
int mtmlGpuGetClock(struct handle *gpu, unsigned *mhz) { ASK(gpu, GPU); return number(gpu, "clock", mhz); }
int mtmlGpuGetMaxClock(struct handle *gpu, unsigned *mhz) { ASK(gpu, GPU); return number(gpu, "max_clock", mhz); }
int mtmlGpuGetUtilization(struct handle *gpu, unsigned *percent) { ASK(gpu, GPU); return number(gpu, "usage", percent); }
int mtmlMemoryGetTotal(struct handle *memory, unsigned long long *bytes) {
  ASK(memory, MEMORY);
  if (!has(memory->device, "memory")) return NOT_SUPPORTED;
  *bytes = whole_of(memory->device, "memory", 0);
  return 0;
}
int mtmlMemoryGetEccMode(struct handle *memory, unsigned *now, unsigned *pending) {
  ASK(memory, MEMORY);
  int code = number(memory, "ecc", now);
  *pending = whole_of(memory->device, "ecc_pending", *now);
  return code;
}
int mtmlMemoryGetEccErrorCounter(struct handle *memory, unsigned type, unsigned counter, unsigned location, unsigned long long *count) {
  ASK(memory, MEMORY);
  if (!has(memory->device, "uncorrected")) return NOT_SUPPORTED;
  if (type != 1 || counter != 0 || location != 1) return INVALID; /* uncorrected, volatile, DRAM */
  *count = whole_of(memory->device, "uncorrected", 0);
  return 0;
}
const char *mtmlErrorString(int code) { static char said[32]; sprintf(said, "fake error %d", code); return said; }
