/* A fake libcndev.so: as much of CNDev as petaseal calls (cndev.h), answering as FAKE_CNDEV's script says (script.h).

   power, cap, power_default and power_max are in W, memory in MiB, sn is hexadecimal; mcu and driver are three numbers;
   throttle is a bit for each reason; problem 1 is a card that is not sound, link 1 one of which only a link is down. The
   library knows versions of structures up to `structs`. */
#define SCRIPT "FAKE_CNDEV"
#define LIBRARY_WORDS " version structs "
#define WORDS                                                                                                          \
  " name name_id uuid sn domain bus slot function memory mcu numbers cores power cap power_default power_max "         \
  "temperature clock max_clock usage uncorrected ecc ecc_pending processes throttle mim smlu vf problem link "
#include "script.h"
#include <stdint.h>

enum { OTHER_VERSION = 3, INVALID = 5, INVALID_DEVICE, TOO_SMALL = 9, NOT_SUPPORTED };
struct count { int32_t version; uint32_t number; };
struct lib_version { int32_t version; uint32_t number[3]; };
struct versions { int32_t version; uint32_t mcu[3], driver[3]; };
struct uuid { int32_t version; uint8_t uuid[37]; uint64_t ncs; };
struct serial { int32_t version; uint64_t sn, mother_board; };
struct pcie_v2 {
  uint32_t subsystem, id;
  uint16_t vendor, subsystem_vendor;
  uint32_t domain, bus, device, function;
  uint16_t module, slot;
  uint32_t reserved[8];
};
struct pcie {
  int32_t version;
  uint32_t subsystem, id;
  uint16_t vendor, subsystem_vendor;
  uint32_t domain, bus, device, function;
  const char *physical_slot;
  int32_t slot;
};
struct memory_v2 { int64_t total, used, reserved_memory, virtual_total, virtual_used; uint64_t global, reserved[16]; };
struct memory { int32_t version; int64_t total, used, virtual_total, virtual_used, channels, channel_used[20]; uint64_t global; };
struct power_v2 { int32_t usage, cap, machine, tdp, max, reserved[16]; };
struct power { int32_t version, usage, cap, usage_decimal, machine, cap_decimal; uint16_t tdp, instant, instant_decimal; };
struct limit { int32_t version; uint16_t limit, decimal; };
struct range { int32_t version; uint16_t least, least_decimal, most, most_decimal; };
struct temperature { int32_t version, board, cluster[20], die[8], chip, in, out, memory, video, cpu, isp; };
struct frequency {
  int32_t version, board, ddr;
  uint8_t over, fast;
  uint16_t clusters, cluster[20];
  int32_t normal, range[2];
};
struct usage { int32_t version, average, core[80]; };
struct ecc { int32_t version; uint64_t one, multiple_one, multiple, multiple_multiple, corrected, uncorrected, total, forbidden; };
struct process { int32_t version; uint32_t pid; uint64_t physical, virtual; };
struct throttle { int32_t version, reasons[6]; };
struct health { int32_t version, health, device, driver; };
struct incident { int32_t system, health; char msg[512]; uint32_t device, bdf; int32_t code; uint32_t category, severity; };
struct health_v2 { int32_t health, device, driver, overall; uint32_t count; struct incident incidents[64]; uint32_t reserved[8]; };
const unsigned fake_sizes[] = {
    sizeof(struct count), sizeof(struct lib_version), sizeof(struct versions), sizeof(struct uuid), sizeof(struct serial),
    sizeof(struct count), sizeof(struct pcie_v2), sizeof(struct pcie), sizeof(struct memory_v2), sizeof(struct memory),
    sizeof(struct power_v2), sizeof(struct power), sizeof(struct limit), sizeof(struct range), sizeof(struct temperature),
    sizeof(struct frequency), sizeof(struct usage), sizeof(struct ecc), sizeof(struct count), sizeof(struct count),
    sizeof(struct count), sizeof(struct process), sizeof(struct throttle), sizeof(struct health),
    sizeof(struct incident), sizeof(struct health_v2)};

#define FIRST_HANDLE 700 /* a handle is no index */
static struct device *of(int handle) {
  int index = handle - FIRST_HANDLE;
  return index >= 0 && index < device_count ? &devices[index] : NULL;
}
static int unknown_version(int version) { return version < 1 || version > whole_of(&library, "structs", 6); }
#define ASK(handle)                                                                                                    \
  struct device *d = of(handle);                                                                                       \
  do {                                                                                                                 \
    int code_ = asked(__func__, d);                                                                                    \
    if (code_) return code_;                                                                                           \
    if (!d) return INVALID_DEVICE;                                                                                     \
  } while (0)
#define KNOW(filled) do { if (unknown_version((filled)->version)) return OTHER_VERSION; } while (0)
#define HAVE(word) do { if (!has(d, word)) return NOT_SUPPORTED; } while (0)

static void three(const char *text, uint32_t *into) { sscanf(text, "%u %u %u", into, into + 1, into + 2); }

int cndevInit(int reserved) { read_script(); return reserved ? INVALID : asked(__func__, NULL); }
int cndevRelease(void) { return asked(__func__, NULL); }
const char *petasealFakeDriver(void) { return FAKE_DRIVER; }
int cndevGetLibVersion(struct lib_version *filled) {
  KNOW(filled);
  three(text_of(&library, "version", "3 12 4"), filled->number);
  return asked(__func__, NULL);
}
int cndevGetDeviceCount(struct count *filled) {
  KNOW(filled);
  filled->number = wholes();
  return asked(__func__, NULL);
}
int cndevGetDeviceHandleByIndex(int index, int *handle) {
  if (!whole_at(index)) return INVALID_DEVICE;
  *handle = FIRST_HANDLE + index;
  return asked(__func__, whole_at(index));
}
const char *cndevGetCardNameStringByDevId(int handle) {
  struct device *d = of(handle);
  return d && !asked(__func__, d) && has(d, "name") ? text_of(d, "name", "") : NULL;
}
int cndevGetCardName(struct count *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("name_id");
  filled->number = whole_of(d, "name_id", 0);
  return 0;
}
const char *cndevGetCardNameString(int id) { return id == 23 ? "MLU370" : id == 26 ? "MLU590" : NULL; }
int cndevGetVersionInfo(struct versions *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  three(text_of(d, "mcu", "1 1 6"), filled->mcu), three(text_of(d, "numbers", "5 10 22"), filled->driver);
  return 0;
}
int cndevGetUUID(struct uuid *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("uuid");
  memset(filled->uuid, 0, sizeof filled->uuid);
  return copy_text(d, "uuid", (char *)filled->uuid, sizeof filled->uuid) < 0 ? TOO_SMALL : 0;
}
int cndevGetCardSN(struct serial *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("sn");
  filled->sn = strtoull(text_of(d, "sn", "0"), NULL, 16), filled->mother_board = 0;
  return 0;
}
#define PLACE(filled)                                                                                                  \
  (filled)->domain = whole_of(d, "domain", 0), (filled)->bus = whole_of(d, "bus", 0),                                  \
  (filled)->device = whole_of(d, "slot", 0), (filled)->function = whole_of(d, "function", 0)
int cndevGetPCIeInfoV2(struct pcie_v2 *filled, int handle) { ASK(handle); HAVE("bus"); PLACE(filled); return 0; }
int cndevGetPCIeInfo(struct pcie *filled, int handle) { ASK(handle); KNOW(filled); HAVE("bus"); PLACE(filled); return 0; }
int cndevGetMemoryUsageV2(struct memory_v2 *filled, int handle) {
  ASK(handle);
  HAVE("memory");
  filled->total = whole_of(d, "memory", 0);
  return 0;
}
int cndevGetMemoryUsage(struct memory *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("memory");
  filled->total = whole_of(d, "memory", 0);
  return 0;
}
int cndevGetDevicePowerInfo(struct power_v2 *filled, int handle) {
  ASK(handle);
  HAVE("power");
  filled->usage = whole_of(d, "power", 0), filled->cap = whole_of(d, "cap", 0);
  return 0;
}
int cndevGetPowerInfo(struct power *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("power");
  filled->usage = whole_of(d, "power", 0), filled->cap = whole_of(d, "cap", 0);
  return 0;
}
int cndevGetPowerManagementDefaultLimitation(struct limit *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("power_default");
  filled->limit = whole_of(d, "power_default", 0);
  return 0;
}
int cndevGetPowerManagementLimitationRange(struct range *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("power_max");
  filled->most = whole_of(d, "power_max", 0);
  return 0;
}
int cndevGetTemperatureInfo(struct temperature *filled, int handle) {
  if (of(handle)) of(handle)->reads++; /* with which a reading begins */
  ASK(handle);
  KNOW(filled);
  HAVE("temperature");
  filled->chip = whole_of(d, "temperature", 0), filled->board = filled->chip - 5;
  return 0;
}
int cndevGetFrequencyInfo(struct frequency *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("clock");
  filled->board = whole_of(d, "clock", 0), filled->range[1] = whole_of(d, "max_clock", 0);
  return 0;
}
int cndevGetDeviceUtilizationInfo(struct usage *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("usage");
  filled->average = whole_of(d, "usage", 0);
  return 0;
}
int cndevGetECCInfo(struct ecc *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("uncorrected");
  filled->one = filled->corrected = 7, filled->uncorrected = whole_of(d, "uncorrected", 0);
  return 0;
}
int cndevGetPerformanceThrottleReason(struct throttle *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("throttle");
  for (int i = 0; i < 6; i++) filled->reasons[i] = whole_of(d, "throttle", 0) >> i & 1;
  return 0;
}
#define STATE(filled)                                                                                                  \
  (filled)->health = !whole_of(d, "problem", 0) && !whole_of(d, "link", 0), (filled)->device = !whole_of(d, "problem", 0), \
  (filled)->driver = 4
int cndevGetCardHealthStateV2(struct health_v2 *filled, int handle) {
  ASK(handle);
  STATE(filled);
  filled->count = 64, memset(filled->incidents, 1, sizeof filled->incidents);
  return 0;
}
int cndevGetCardHealthState(struct health *filled, int handle) { ASK(handle); KNOW(filled); STATE(filled); return 0; }
int cndevGetCoreCount(struct count *filled, int handle) {
  ASK(handle);
  KNOW(filled);
  HAVE("cores");
  filled->number = whole_of(d, "cores", 0);
  return 0;
}
static int mode(struct device *d, const char *word, struct count *filled) {
  KNOW(filled);
  HAVE(word);
  filled->number = whole_of(d, word, 0);
  return 0;
}
int cndevGetMimMode(struct count *filled, int handle) { ASK(handle); return mode(d, "mim", filled); }
int cndevGetSMLUMode(struct count *filled, int handle) { ASK(handle); return mode(d, "smlu", filled); }
int cndevGetCardVfState(struct count *filled, int handle) { ASK(handle); return mode(d, "vf", filled); }
int cndevGetEccMode(struct count *now, struct count *pending, int handle) {
  ASK(handle);
  KNOW(pending);
  pending->number = whole_of(d, "ecc_pending", whole_of(d, "ecc", 0));
  return mode(d, "ecc", now);
}
int cndevGetProcessInfo(unsigned *count, struct process *processes, int handle) {
  unsigned room = *count;
  ASK(handle);
  KNOW(processes);
  HAVE("processes");
  *count = whole_of(d, "processes", 0);
  for (unsigned i = 0; i < *count && i < room; i++) processes[i].pid = 4000 + i;
  return *count > room ? TOO_SMALL : 0;
}
