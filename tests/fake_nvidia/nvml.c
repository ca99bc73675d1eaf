/* A fake libnvidia-ml.so.1: as much of NVML as petaseal calls, telling what a script says (script.h).
   Built with -DOLD it is an older driver's: functions that came later are not there at all. */
#include "script.h"

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

static int asked(const char *function, handle device) {
  int code = scripted(function);
  if (!begun) return 1;
  if (device && (device < devices || device >= devices + device_count)) return INVALID;
  int lost = device ? value_of(device, LOST) : 0;
  return code ? code : lost == 1 ? IS_LOST : lost;
}
#define ASK(device) do { int code_ = (device) ? asked(__func__, device) : INVALID; if (code_) return code_; } while (0)
#define WHOLE(device) do { ASK(device); if ((device)->parent) return NOT_SUPPORTED; } while (0)

static int text(const char *told, char *into, unsigned size) {
  if (!*told) return NOT_SUPPORTED;
  if (strlen(told) >= size) return TOO_SMALL;
  strcpy(into, told);
  return 0;
}

static int number(long told, unsigned *into) {
  if (!told) return NOT_SUPPORTED;
  *into = told;
  return 0;
}

int nvmlInitWithFlags(unsigned flags) { read_script(); return nvml_init; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { static char said[32]; sprintf(said, "fake error %d", code); return said; }
int nvmlSystemGetDriverVersion(char *into, unsigned size) {
  int code = asked(__func__, NULL);
  return code ? code : text(driver, into, size);
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  *count = 0;
  for (int i = 0; i < device_count; i++) *count += !devices[i].parent;
  return asked(__func__, NULL);
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *found) {
  for (int i = 0; i < device_count; i++)
    if (!devices[i].parent && !index--) { ASK(&devices[i]); *found = &devices[i]; return 0; }
  return INVALID;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, handle *found) {
  for (int i = 0; i < device_count; i++) { int code = asked(__func__, &devices[i]); if (code) return code; } /* any GPU */
  for (int i = 0; i < device_count; i++)
    if (!strcmp(devices[i].uuid, uuid)) { ASK(&devices[i]); *found = &devices[i]; return 0; }
  return NOT_FOUND;
}

int nvmlDeviceGetName(handle d, char *into, unsigned size) { ASK(d); return text(d->name, into, size); }
int nvmlDeviceGetUUID(handle d, char *into, unsigned size) { ASK(d); return text(d->uuid, into, size); }
int nvmlDeviceGetSerial(handle d, char *into, unsigned size) {
  ASK(d);
  return text((d->parent ? d->parent : d)->serial, into, size); /* a MIG instance tells its board's */
}
int nvmlDeviceGetBoardPartNumber(handle d, char *into, unsigned size) { WHOLE(d); return text(d->part, into, size); }
int nvmlDeviceGetVbiosVersion(handle d, char *into, unsigned size) { WHOLE(d); return text(d->vbios, into, size); }
int nvmlDeviceGetPciInfo_v3(handle d, pci_info *pci) {
  WHOLE(d);
  memset(pci, 0, sizeof *pci);
  pci->domain = d->domain, pci->bus = d->bus;
  snprintf(pci->legacy, sizeof pci->legacy, "%04X:%02X:00.0", d->domain & 0xffff, d->bus);
  snprintf(pci->address, sizeof pci->address, "%08X:%02X:00.0", d->domain, d->bus);
  return 0;
}
int nvmlDeviceGetMemoryInfo(handle d, memory_info *memory) {
  ASK(d);
  if (!d->memory) return NOT_SUPPORTED;
  memory->total = d->memory, memory->free = d->free, memory->used = d->memory - d->free;
  return 0;
}
int nvmlDeviceGetMaxClockInfo(handle d, unsigned type, unsigned *mhz) { WHOLE(d); return number(d->max_clock, mhz); }

int nvmlDeviceGetClockInfo(handle d, unsigned type, unsigned *mhz) {
  if (d && d >= devices && d < devices + device_count) d->reads++;
  WHOLE(d);
  return number(value_of(d, CLOCK), mhz);
}
int nvmlDeviceGetPowerUsage(handle d, unsigned *mw) { WHOLE(d); return number(value_of(d, POWER), mw); }
int nvmlDeviceGetTemperature(handle d, unsigned sensor, unsigned *c) { WHOLE(d); return number(value_of(d, TEMPERATURE), c); }
int nvmlDeviceGetUtilizationRates(handle d, usage_info *usage) {
  WHOLE(d);
  usage->gpu = value_of(d, USAGE), usage->memory = 0;
  return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(handle d, unsigned long long *mask) {
  WHOLE(d);
  *mask = value_of(d, REASONS);
  return 0;
}
int nvmlSystemGetConfComputeState(unsigned *environment_feature_tools) {
  if (confidential < 0) return NOT_SUPPORTED;
  environment_feature_tools[1] = confidential;
  return asked(__func__, NULL);
}
int nvmlDeviceGetEnforcedPowerLimit(handle d, unsigned *mw) { WHOLE(d); return number(d->power_limit, mw); }
int nvmlDeviceGetPowerManagementDefaultLimit(handle d, unsigned *mw) { WHOLE(d); return number(d->default_limit, mw); }
int nvmlDeviceGetPowerManagementLimitConstraints(handle d, unsigned *least, unsigned *most) {
  WHOLE(d);
  *least = 200000;
  return number(d->max_limit, most);
}
int nvmlDeviceGetApplicationsClock(handle d, unsigned type, unsigned *mhz) { WHOLE(d); return number(d->app_clock, mhz); }
int nvmlDeviceGetPersistenceMode(handle d, unsigned *mode) { WHOLE(d); *mode = d->persistence; return 0; }
int nvmlDeviceGetComputeMode(handle d, unsigned *mode) { WHOLE(d); *mode = d->compute; return 0; }
int nvmlDeviceGetEccMode(handle d, unsigned *current, unsigned *pending) {
  WHOLE(d);
  *current = d->ecc, *pending = d->ecc_pending < 0 ? d->ecc : d->ecc_pending;
  return 0;
}
int nvmlDeviceGetTotalEccErrors(handle d, unsigned type, unsigned counter, unsigned long long *count) {
  WHOLE(d);
  if (!d->ecc || type != 1 || (d->ecc == 2 && counter == 0)) return NOT_SUPPORTED; /* 2: aggregate counters only */
  *count = value_of(d, UNCORRECTED);
  return 0;
}
#ifdef OLD
#define nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetComputeRunningProcesses_v2
#endif
int nvmlDeviceGetComputeRunningProcesses_v3(handle d, unsigned *count, process_info *processes) {
  unsigned room = *count;
  ASK(d);
  *count = value_of(d, PROCESSES);
  if (*count > room) return TOO_SMALL;
  for (unsigned i = 0; i < *count; i++) processes[i] = (process_info){4000 + i, 1 << 20, ~0u, ~0u};
  return 0;
}

int nvmlDeviceGetMigMode(handle d, unsigned *current, unsigned *pending) {
  WHOLE(d);
  *current = *pending = d->mig_mode;
  return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(handle d, unsigned *count) { WHOLE(d); *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(handle d, unsigned index, handle *found) {
  WHOLE(d);
  if (index < 1) return NOT_FOUND; /* a slot that is empty */
  for (int i = 0; i < device_count; i++)
    if (devices[i].parent == d && !--index) { *found = &devices[i]; return 0; }
  return NOT_FOUND;
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
  told->sms = d->sms, told->memory_mb = d->memory >> 20;
  return 0;
}
int nvmlDeviceGetGpuInstanceId(handle d, unsigned *id) { ASK(d); *id = d->gi; return d->parent ? 0 : NOT_SUPPORTED; }
int nvmlDeviceGetComputeInstanceId(handle d, unsigned *id) { ASK(d); *id = d->ci; return d->parent ? 0 : NOT_SUPPORTED; }

#ifndef OLD
int nvmlDeviceGetTemperatureV(handle d, temperature_info *told) {
  unsigned value = 0;
  WHOLE(d);
  int code = number(value_of(d, TEMPERATURE), &value);
  told->value = value;
  return code;
}
int nvmlDeviceGetCurrentClocksEventReasons(handle d, unsigned long long *mask) {
  WHOLE(d);
  *mask = value_of(d, REASONS);
  return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(handle d, unsigned long long *mj) {
  WHOLE(d);
  double now = seconds();
  d->energy_mj += (now - (d->energy_at ? d->energy_at : begun)) * value_of(d, POWER); /* mW s */
  d->energy_at = now;
  *mj = 1000000 + d->energy_mj;
  return 0;
}

static handle watched;
int nvmlEventSetCreate(void **set) { *set = &watched; return asked(__func__, NULL); }
int nvmlEventSetFree(void *set) { return 0; }
int nvmlDeviceGetSupportedEventTypes(handle d, unsigned long long *types) { WHOLE(d); *types = 0x1f; return 0; }
int nvmlDeviceRegisterEvents(handle d, unsigned long long types, void *set) { WHOLE(d); watched = d; return 0; }
int nvmlEventSetWait_v2(void *set, event_data *event, unsigned timeout_ms) {
  if (!watched) return TIMEOUT;
  ASK(watched);
  for (int i = -1; i < device_count; i++) { /* errors of the GPU, and those of its instances */
    handle d = i < 0 ? watched : &devices[i];
    long xid = i < 0 || d->parent == watched ? value_of(d, XID) : 0;
    if (!xid || xid == d->told) continue;
    d->told = xid;
    *event = (event_data){watched, 0x8, xid, d->parent ? d->gi : ~0u, d->parent ? d->ci : ~0u};
    return 0;
  }
  return TIMEOUT;
}
#endif
