/* A fake libnvidia-ml.so.1: as much of NVML as petaseal calls, telling what a script says (nvidia.h). */
#include "nvidia.h"

#define TOO_SMALL 7
#define NOT_SUPPORTED 3
#define INVALID 2
#define NOT_FOUND 6
#define TIMEOUT 10
#define IS_LOST 15

typedef struct device *handle;
typedef struct { char legacy[16]; unsigned domain, bus, slot, id, subsystem; char address[32]; } pci_info;
typedef struct { unsigned long long total, free, used; } memory_info;
typedef struct { unsigned gpu, memory; } usage_info;
typedef struct { unsigned version, sensor; int value; } temperature_info;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process_info;
typedef struct { handle device; unsigned long long type, data; unsigned gi, ci; } event_data;
typedef struct { unsigned sms, rest[7]; unsigned long long memory_mb; } attributes;

static int checked(const char *function, handle device) {
  if (!begun) return 1;
  if (device && index_of(device) < 0) return INVALID;
  int code = asked(function, device), gone = device ? lost(device) : 0;
  return code ? code : gone == 1 ? IS_LOST : gone;
}
#define ASK(device) do { int code_ = (device) ? checked(__func__, device) : INVALID; if (code_) return code_; } while (0)
#define WHOLE(device) do { ASK(device); if ((device)->parent) return NOT_SUPPORTED; } while (0)

static int text(struct device *d, const char *word, char *into, unsigned size) {
  int length = copy_text(d, word, into, size);
  return length > 0 ? 0 : length ? TOO_SMALL : NOT_SUPPORTED;
}

static int number(struct device *d, const char *word, unsigned *into) {
  long long value = whole_of(d, word, 0);
  if (!value) return NOT_SUPPORTED;
  *into = value;
  return 0;
}

static int init(const char *function) {
  read_script();
  int code = asked(function, NULL);
  return code ? code : whole_of(&library, "nvml_init", 0);
}
int nvmlInitWithFlags(unsigned flags) { return init(__func__); }
int nvmlInit_v2(void) { return init(__func__); }
int nvmlShutdown(void) { return asked(__func__, NULL); }
const char *nvmlErrorString(int code) { static char said[32]; sprintf(said, "fake error %d", code); return said; }
int nvmlSystemGetDriverVersion(char *into, unsigned size) {
  int code = checked(__func__, NULL);
  snprintf(into, size, "%s", FAKE_DRIVER);
  return code;
}

int nvmlSystemGetNVMLVersion(char *into, unsigned size) {
  int code = checked(__func__, NULL);
  snprintf(into, size, "%s", "12.550.54.14");
  return code;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  int code = checked(__func__, NULL);
  if (!code) *count = wholes();
  return code;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *found) {
  struct device *d = whole_at(index);
  ASK(d);
  *found = d;
  return 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, handle *found) {
  for (int i = 0; i < device_count; i++) { int code = checked(__func__, &devices[i]); if (code) return code; } /* any GPU */
  for (int i = 0; i < device_count; i++)
    if (!strcmp(text_of(&devices[i], "uuid", ""), uuid)) { ASK(&devices[i]); *found = &devices[i]; return 0; }
  return NOT_FOUND;
}

int nvmlDeviceGetName(handle d, char *into, unsigned size) { ASK(d); return text(d, "name", into, size); }
int nvmlDeviceGetUUID(handle d, char *into, unsigned size) { ASK(d); return text(d, "uuid", into, size); }
int nvmlDeviceGetSerial(handle d, char *into, unsigned size) {
  ASK(d);
  return text(d->parent ? d->parent : d, "serial", into, size); /* a MIG instance tells its board's */
}
int nvmlDeviceGetBoardPartNumber(handle d, char *into, unsigned size) { WHOLE(d); return text(d, "part", into, size); }
int nvmlDeviceGetVbiosVersion(handle d, char *into, unsigned size) { WHOLE(d); return text(d, "vbios", into, size); }
int nvmlDeviceGetPciInfo_v3(handle d, pci_info *pci) {
  WHOLE(d);
  memset(pci, 0, sizeof *pci);
  place_of(d, &pci->domain, &pci->bus);
  pci->id = whole_of(d, "pci_ids", 0x20f110de);
  snprintf(pci->legacy, sizeof pci->legacy, "%04X:%02X:00.0", pci->domain & 0xffff, pci->bus);
  snprintf(pci->address, sizeof pci->address, "%08X:%02X:00.0", pci->domain, pci->bus);
  return 0;
}
int nvmlDeviceGetMemoryInfo(handle d, memory_info *memory) {
  ASK(d);
  if (!whole_of(d, "memory", 0)) return NOT_SUPPORTED;
  memory->total = whole_of(d, "memory", 0), memory->free = whole_of(d, "free", 0);
  memory->used = memory->total - memory->free;
  return 0;
}
int nvmlDeviceGetMaxClockInfo(handle d, unsigned type, unsigned *mhz) { WHOLE(d); return number(d, "max_clock", mhz); }

int nvmlDeviceGetClockInfo(handle d, unsigned type, unsigned *mhz) {
  if (d && index_of(d) >= 0) d->reads++;
  WHOLE(d);
  return number(d, "clock", mhz);
}
int nvmlDeviceGetPowerUsage(handle d, unsigned *mw) { WHOLE(d); return number(d, "power", mw); }
int nvmlDeviceGetTemperature(handle d, unsigned sensor, unsigned *c) { WHOLE(d); return number(d, "temperature", c); }
int nvmlDeviceGetUtilizationRates(handle d, usage_info *usage) {
  WHOLE(d);
  usage->gpu = whole_of(d, "usage", 0), usage->memory = 0;
  return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(handle d, unsigned long long *mask) {
  WHOLE(d);
  *mask = whole_of(d, "reasons", 0);
  return 0;
}
int nvmlSystemGetConfComputeState(unsigned *environment_feature_tools) {
  if (!has(&library, "confidential")) return NOT_SUPPORTED;
  environment_feature_tools[1] = whole_of(&library, "confidential", 0);
  return checked(__func__, NULL);
}
int nvmlDeviceGetEnforcedPowerLimit(handle d, unsigned *mw) { WHOLE(d); return number(d, "power_limit", mw); }
int nvmlDeviceGetPowerManagementDefaultLimit(handle d, unsigned *mw) { WHOLE(d); return number(d, "default_limit", mw); }
int nvmlDeviceGetPowerManagementLimitConstraints(handle d, unsigned *least, unsigned *most) {
  WHOLE(d);
  *least = 200000;
  return number(d, "max_limit", most);
}
int nvmlDeviceGetApplicationsClock(handle d, unsigned type, unsigned *mhz) { WHOLE(d); return number(d, "app_clock", mhz); }
int nvmlDeviceGetPersistenceMode(handle d, unsigned *mode) { WHOLE(d); *mode = whole_of(d, "persistence", 0); return 0; }
int nvmlDeviceGetComputeMode(handle d, unsigned *mode) { WHOLE(d); *mode = whole_of(d, "compute", 0); return 0; }
int nvmlDeviceGetEccMode(handle d, unsigned *current, unsigned *pending) {
  WHOLE(d);
  *current = whole_of(d, "ecc", 0), *pending = whole_of(d, "ecc_pending", *current);
  return 0;
}
int nvmlDeviceGetRemappedRows(handle d, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
  WHOLE(d);
  if (!has(d, "rows_pending")) return NOT_SUPPORTED;
  *corrected = whole_of(d, "rows_corrected", 0), *uncorrected = whole_of(d, "rows_uncorrected", 0);
  *pending = whole_of(d, "rows_pending", 0), *failed = whole_of(d, "rows_failed", 0);
  return 0;
}
int nvmlDeviceGetTotalEccErrors(handle d, unsigned type, unsigned counter, unsigned long long *count) {
  WHOLE(d);
  int ecc = whole_of(d, "ecc", 0);
  if (!ecc || type != 1 || (ecc == 2 && counter == 0)) return NOT_SUPPORTED; /* 2: aggregate counters only */
  *count = whole_of(d, "uncorrected", 0);
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(handle d, unsigned *count, process_info *processes) {
  unsigned room = *count;
  ASK(d);
  *count = whole_of(d, "processes", 0);
  if (*count > room) return TOO_SMALL;
  for (unsigned i = 0; i < *count; i++) processes[i] = (process_info){4000 + i, 1 << 20, ~0u, ~0u};
  return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v2(handle d, unsigned *count, process_info *processes) {
  return nvmlDeviceGetComputeRunningProcesses_v3(d, count, processes);
}
int nvmlDeviceGetComputeRunningProcesses(handle d, unsigned *count, process_info *processes) {
  ASK(d);
  int most = *count;
  *count = whole_of(d, "processes", 0);
  return (int)*count > most ? TOO_SMALL : 0; /* items of another layout, which nobody asks for */
}
int nvmlDeviceGetPowerManagementLimit(handle d, unsigned *mw) { WHOLE(d); return number(d, "power_limit", mw); }
#ifdef IXML
int ixmlDeviceGetEccErros(handle d, unsigned *single, unsigned *doubled) {
  ASK(d);
  *single = 3, *doubled = whole_of(d, "uncorrected", 0);
  return 0;
}
#endif
int nvmlDeviceGetVirtualizationMode(handle d, unsigned *mode) { /* an enumeration */
  WHOLE(d);
  *mode = whole_of(d, "virtualization", 0);
  return 0;
}

int nvmlDeviceGetMigMode(handle d, unsigned *current, unsigned *pending) {
  WHOLE(d);
  *current = *pending = whole_of(d, "mig_mode", 0);
  return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(handle d, unsigned *count) { WHOLE(d); *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(handle d, unsigned index, handle *found) {
  WHOLE(d);
  if (index < 1) return NOT_FOUND; /* a slot that is empty */
  *found = part_at(d, index - 1);
  return *found ? 0 : NOT_FOUND;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle d, handle *parent) {
  ASK(d);
  *parent = d->parent;
  return d->parent ? 0 : INVALID;
}
int nvmlDeviceGetAttributes_v2(handle d, attributes *told) {
  ASK(d);
  if (!d->parent) return NOT_SUPPORTED;
  memset(told, 0, sizeof *told);
  told->sms = whole_of(d, "sms", 0), told->memory_mb = whole_of(d, "memory", 0) >> 20;
  return 0;
}
int nvmlDeviceGetGpuInstanceId(handle d, unsigned *id) { ASK(d); *id = whole_of(d, "gi", 0); return d->parent ? 0 : NOT_SUPPORTED; }
int nvmlDeviceGetComputeInstanceId(handle d, unsigned *id) { ASK(d); *id = whole_of(d, "ci", 0); return d->parent ? 0 : NOT_SUPPORTED; }

int nvmlDeviceGetTemperatureV(handle d, temperature_info *told) {
  unsigned value = 0;
  WHOLE(d);
  int code = number(d, "temperature", &value);
  told->value = value;
  return code;
}
int nvmlDeviceGetCurrentClocksEventReasons(handle d, unsigned long long *mask) {
  WHOLE(d);
  *mask = whole_of(d, "reasons", 0);
  return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(handle d, unsigned long long *mj) {
  WHOLE(d);
  double now = seconds();
  d->energy_mj += (now - (d->energy_at ? d->energy_at : begun)) * whole_of(d, "power", 0); /* mW s */
  d->energy_at = now;
  *mj = 1000000 + d->energy_mj;
  return 0;
}

static struct event_set { handle watched; long seen[MOST_DEVICES]; } sets[MOST_DEVICES]; /* one tells an error once */
static int set_count;
int nvmlEventSetCreate(void **set) { *set = &sets[set_count++ % MOST_DEVICES]; return checked(__func__, NULL); }
int nvmlEventSetFree(void *set) { return 0; }
int nvmlDeviceGetSupportedEventTypes(handle d, unsigned long long *types) { WHOLE(d); *types = 0x1f; return 0; }
int nvmlDeviceRegisterEvents(handle d, unsigned long long types, void *set) {
  WHOLE(d);
  ((struct event_set *)set)->watched = d;
  return 0;
}
int nvmlEventSetWait_v2(void *opaque, event_data *event, unsigned timeout_ms) {
  struct event_set *set = opaque;
  handle watched = set->watched;
  if (!watched) return TIMEOUT;
  ASK(watched);
  for (int i = -1; i < device_count; i++) { /* errors of the GPU, and those of its instances */
    handle d = i < 0 ? watched : &devices[i];
    long xid = i < 0 || d->parent == watched ? whole_of(d, "xid", 0) : 0;
    if (!xid || xid == set->seen[index_of(d)]) continue;
    set->seen[index_of(d)] = xid;
    *event = (event_data){watched, 0x8, xid, d->parent ? whole_of(d, "gi", 0) : ~0u, d->parent ? whole_of(d, "ci", 0) : ~0u};
    return 0;
  }
  return TIMEOUT;
}
