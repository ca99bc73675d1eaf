/* A fake libmxsml.so: as much of MetaX's management library as petaseal calls, answering what a script says (script.h).
   A device whose `mode` is 1 is a physical function, with an index from 100 on; `of` is that index in one whose mode is 2.
   `sgpus` are the ids of a GPU's slices, of which the quota and the uuid are those of `sgpu_quota` and `sgpu_uuid`. */
#define SCRIPT "FAKE_MXSML"
#define WORDS                                                                                                          \
  " name uuid bdf brand mode of serial chip bios memory power limit temperature clock clocks usage ecc sram dram "      \
  "reasons processes state reason sgpu sgpus sgpu_quota sgpu_uuid "
#define LIBRARY_WORDS " maca init pfs "
#include "script.h"

#define SUCCESS 0
#define NO_DEVICE 2
#define NOT_SUPPORTED 3
#define INVALID_DEVICE 6
#define INVALID_INPUT 9
#define INSUFFICIENT_SIZE 10
#define XCORE 11
#define HOTSPOT 0
#define FIRST_PF 100

typedef struct { unsigned deviceId, type; char bdfId[32]; unsigned gpuId, nodeId; char uuid[96]; unsigned brand, mode; char deviceName[32]; } device_info;
typedef struct { int number, deviceId[128]; } device_ids;
typedef struct { long visVramTotal, visVramUse, vramTotal, vramUse, xttTotal, xttUse; } memory_info;
typedef struct { unsigned voltage, current, power; } way;
typedef struct { char bdfId[32]; unsigned gpuId; unsigned long gpuMemoryUsage; } process_gpu;
typedef struct { unsigned processId; char processName[64]; unsigned gpuNumber; process_gpu gpus[64]; } process;
typedef struct { unsigned sramCE, sramUE, dramCE, dramUE, retiredPage; } ecc_errors;
typedef struct { int code; char reason[64]; } unavailable;
typedef struct { unsigned parent, id, vram, priority, compute, minor, queue; char uuid[96]; } sgpu_info;

static int physical(struct device *d) { return whole_of(d, "mode", 0) == 1; }

/* By its index: devices that can compute from 0 on, physical functions from 100 on. */
static struct device *at(unsigned id) {
  int skip = id >= FIRST_PF ? (int)id - FIRST_PF : (int)id;
  for (int i = 0; i < device_count; i++)
    if (physical(&devices[i]) == (id >= FIRST_PF) && !skip--) return &devices[i];
  return NULL;
}

#define ASK(id)                                                                                                        \
  struct device *d = at(id);                                                                                           \
  if (!d) return INVALID_DEVICE;                                                                                       \
  int code_ = asked(__func__, d);                                                                                      \
  if (code_) return code_

static int text(struct device *d, const char *word, char *into, unsigned *size) {
  int length = copy_text(d, word, into, *size);
  return length > 0 ? SUCCESS : length ? INSUFFICIENT_SIZE : NOT_SUPPORTED;
}
static int number(struct device *d, const char *word, unsigned *into) {
  if (!has(d, word)) return NOT_SUPPORTED;
  *into = (unsigned)whole_of(d, word, 0);
  return SUCCESS;
}

unsigned mxSmlInit(void) {
  read_script();
  int code = asked(__func__, NULL);
  return code ? code : device_count ? SUCCESS : NO_DEVICE;
}
const char *mxSmlGetErrorString(unsigned code) { static char said[32]; sprintf(said, "fake error %u", code); return said; }
unsigned mxSmlGetMacaVersion(char *into, unsigned *size) {
  int code = asked(__func__, NULL);
  return code ? code : text(&library, "maca", into, size);
}

unsigned mxSmlGetDeviceCount(void) {
  int all = 0;
  asked(__func__, NULL);
  for (int i = 0; i < device_count; i++) all += !physical(&devices[i]);
  return has(&library, "count") ? wholes() : all;
}
unsigned mxSmlGetPfDeviceCount(void) {
  int all = 0;
  asked(__func__, NULL);
  for (int i = 0; i < device_count; i++) all += physical(&devices[i]);
  return all;
}

static unsigned info(struct device *d, unsigned id, device_info *into) {
  memset(into, 0, sizeof *into);
  into->deviceId = id, into->gpuId = id, into->nodeId = id;
  into->brand = whole_of(d, "brand", 2), into->mode = whole_of(d, "mode", 0);
  copy_text(d, "bdf", into->bdfId, sizeof into->bdfId);
  copy_text(d, "uuid", into->uuid, sizeof into->uuid);
  copy_text(d, "name", into->deviceName, sizeof into->deviceName);
  return SUCCESS;
}
unsigned mxSmlGetDeviceInfo(unsigned id, device_info *into) {
  if (has(&library, "count") && id < FIRST_PF && (int)id >= whole_of(&library, "count", 0)) return INVALID_DEVICE;
  ASK(id);
  d->reads++; /* every reading begins with this question */
  return info(d, id, into);
}
unsigned mxSmlGetLimitedDeviceInfo(unsigned id, device_info *into) {
  ASK(id);
  info(d, id, into), *into->uuid = *into->deviceName = 0; /* which the real one does not know of such a device either */
  return SUCCESS;
}
unsigned mxSmlGetVirtualDevicesByPhysicalId(unsigned id, device_ids *ids) {
  ASK(id);
  ids->number = 0;
  for (int i = 0; i < FIRST_PF; i++)
    if (at(i) && whole_of(at(i), "of", -1) == id) ids->deviceId[ids->number++] = i;
  return SUCCESS;
}
unsigned mxSmlGetDeviceVersion(unsigned id, unsigned unit, char *into, unsigned *size) {
  ASK(id);
  if (unit == 0) return text(d, "bios", into, size);
  if (unit != 1) return INVALID_INPUT;
  snprintf(into, *size, "%s", FAKE_DRIVER);
  return SUCCESS;
}
unsigned mxSmlGetChipSerial(unsigned id, char *into, unsigned *size) { ASK(id); return text(d, "chip", into, size); }
unsigned mxSmlGetBoardSerial(unsigned id, char *into, unsigned *size) { ASK(id); return text(d, "serial", into, size); }
unsigned mxSmlGetMemoryInfo(unsigned id, memory_info *into) {
  ASK(id);
  if (!has(d, "memory")) return NOT_SUPPORTED;
  memset(into, 0, sizeof *into);
  into->vramTotal = whole_of(d, "memory", 0), into->vramUse = 858 * 1024;
  return SUCCESS;
}
unsigned mxSmlGetTemperatureInfo(unsigned id, unsigned sensor, int *into) {
  ASK(id);
  return sensor == HOTSPOT ? number(d, "temperature", (unsigned *)into) : INVALID_INPUT;
}

/* Three ways, as boards of the C series have; `power` is what each gives, or one number for each. */
unsigned mxSmlGetBoardPowerInfo(unsigned id, unsigned *size, way *ways) {
  char copy[TEXT], *rest = copy, *word;
  unsigned count = 0, room = *size;
  ASK(id);
  if (!has(d, "power")) return NOT_SUPPORTED;
  snprintf(copy, TEXT, "%s", piece_of(d, entry_of(d, "power", "")));
  for (char *c = copy; *c; c++) count += *c == '+';
  *size = count + 1;
  if (room < *size) return INSUFFICIENT_SIZE;
  for (unsigned i = 0; (word = strsep(&rest, "+")); i++) ways[i] = (way){12000, 1, (unsigned)whole(word)};
  return SUCCESS;
}
unsigned mxSmlGetBoardPowerLimit(unsigned id, unsigned *mw) { ASK(id); return number(d, "limit", mw); }

static int core(struct device *d, unsigned of_c, unsigned of_n, unsigned asked_for) {
  return asked_for == (whole_of(d, "brand", 2) == 1 ? of_n : of_c);
}
unsigned mxSmlGetClocks(unsigned id, unsigned domain, unsigned *size, unsigned *mhz) {
  ASK(id);
  if (!core(d, XCORE, 1, domain)) return INVALID_INPUT;
  if (*size < 1) return *size = 1, INSUFFICIENT_SIZE;
  *size = 1;
  return number(d, "clock", mhz);
}
unsigned mxSmlGetDpmIpClockInfo(unsigned id, unsigned domain, unsigned *mhz, unsigned *size) {
  char copy[TEXT], *rest = copy, *word;
  unsigned count = 0;
  ASK(id);
  if (!core(d, 1, 0, domain)) return INVALID_INPUT;
  if (!has(d, "clocks")) return NOT_SUPPORTED;
  snprintf(copy, TEXT, "%s", text_of(d, "clocks", ""));
  while ((word = strsep(&rest, " ")))
    if (count++ < *size) mhz[count - 1] = atoi(word);
  if (count > *size) return *size = count, INSUFFICIENT_SIZE;
  *size = count;
  return SUCCESS;
}
unsigned mxSmlGetDeviceIpUsage(unsigned id, unsigned unit, int *percent) {
  ASK(id);
  return core(d, 4, 0, unit) ? number(d, "usage", (unsigned *)percent) : INVALID_INPUT;
}
unsigned mxSmlGetCurrentClocksThrottleReason(unsigned id, unsigned long long *mask) {
  ASK(id);
  if (!has(d, "reasons")) return NOT_SUPPORTED;
  *mask = whole_of(d, "reasons", 0);
  return SUCCESS;
}
unsigned mxSmlGetEccState(unsigned id, unsigned *state) { ASK(id); return number(d, "ecc", state); }
unsigned mxSmlGetTotalEccErrors(unsigned id, ecc_errors *into) {
  ASK(id);
  if (!has(d, "dram")) return NOT_SUPPORTED;
  *into = (ecc_errors){7, (unsigned)whole_of(d, "sram", 0), 9, (unsigned)whole_of(d, "dram", 0), 11};
  return SUCCESS;
}
unsigned mxSmlGetSingleGpuProcess(unsigned id, unsigned *count, process *processes) {
  unsigned room = *count;
  ASK(id);
  if (!has(d, "processes")) return NOT_SUPPORTED;
  *count = whole_of(d, "processes", 0);
  if (*count > room) return INSUFFICIENT_SIZE;
  memset(processes, 0, *count * sizeof *processes);
  for (unsigned i = 0; i < *count; i++) processes[i].processId = 4000 + i;
  return SUCCESS;
}

unsigned mxSmlGetDeviceState(unsigned id, int *state) { ASK(id); return number(d, "state", (unsigned *)state); }
unsigned mxSmlGetDeviceUnavailableReason(unsigned id, unavailable *into) {
  ASK(id);
  memset(into, 0, sizeof *into);
  into->code = 3;
  copy_text(d, "reason", into->reason, sizeof into->reason);
  return SUCCESS;
}

static int slice_at(struct device *d, int index) {
  char copy[TEXT], *rest = copy, *word;
  snprintf(copy, TEXT, "%s", text_of(d, "sgpus", ""));
  while ((word = strsep(&rest, " ")))
    if (*word && !index--) return atoi(word);
  return -1;
}
unsigned mxSmlGetSgpuToggle(unsigned id, unsigned *state) { ASK(id); return number(d, "sgpu", state); }
unsigned mxSmlGetSgpuCount(unsigned id) {
  struct device *d = at(id);
  int count = 0;
  if (!d || asked(__func__, d)) return 0;
  while (slice_at(d, count) >= 0) count++;
  return count;
}
unsigned mxSmlGetSgpuInfo(unsigned id, unsigned slice, sgpu_info *into) {
  ASK(id);
  for (int i = 0; slice_at(d, i) >= 0; i++)
    if ((unsigned)slice_at(d, i) == slice) {
      memset(into, 0, sizeof *into);
      into->parent = id, into->id = slice, into->vram = whole_of(d, "sgpu_quota", 0), into->compute = 25;
      copy_text(d, "sgpu_uuid", into->uuid, sizeof into->uuid);
      return SUCCESS;
    }
  return NOT_SUPPORTED;
}
