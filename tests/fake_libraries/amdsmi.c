/* A fake libamd_smi.so: as much of AMD's management library as petaseal calls, answering what a script says (script.h).
   A device is a processor alone on its socket; `socket` is the place of the device whose socket it shares. `residency` is
   which of the five throttlers are active, as text: "01000". Numbers that a device does not have are not supported. */
#define SCRIPT "FAKE_AMDSMI"
#define WORDS                                                                                                          \
  " name market id subsystem unique serial board bdf kfd node mode units vbios memory cap default_cap max_cap "      \
  "current average hotspot edge clock max_clock usage uncorrected processes energy unit residency socket "
#define LIBRARY_WORDS " major minor release "
#include "script.h"
#include <stdint.h>

#define SUCCESS 0
#define INVAL 1
#define NOT_SUPPORTED 2
#define LATE_TEXT 256

typedef struct { uint32_t major, minor, release; const char *build; } version_info;
typedef struct {
  char market_name[LATE_TEXT]; uint32_t vendor_id; char vendor_name[LATE_TEXT]; uint32_t subvendor_id; uint64_t device_id;
  uint32_t rev_id; char asic_serial[LATE_TEXT]; uint32_t oam_id, units; uint64_t target; uint32_t subsystem_id, reserved[21];
} asic_info;
typedef struct { char model[LATE_TEXT], serial[LATE_TEXT], fru[LATE_TEXT], name[LATE_TEXT], maker[LATE_TEXT]; uint64_t reserved[64]; } board_info;
typedef struct { uint64_t kfd_id; uint32_t node_id, partition, reserved[12]; } kfd_info;
typedef struct { char name[LATE_TEXT], date[LATE_TEXT], part[LATE_TEXT], version[LATE_TEXT]; uint64_t reserved[68]; } vbios_info;
typedef struct { char version[LATE_TEXT], date[LATE_TEXT], name[LATE_TEXT]; } driver_info;
typedef struct { uint64_t socket; uint32_t current, average; uint64_t volts[3]; uint32_t limit; uint64_t reserved[18]; } power_info;
typedef struct { uint64_t cap, standard, dpm, least, most, reserved[3]; } cap_info;
typedef struct { uint32_t clock, least, most; uint8_t locked, asleep; uint32_t reserved[4]; } clock_info;
typedef struct { uint32_t gfx, umc, mm, reserved[13]; } usage_info;
typedef struct { uint64_t corrected, uncorrected, deferred, reserved[5]; } error_count;
typedef struct {
  uint64_t times[2], acc[7], per[6]; uint8_t active[6]; uint64_t acc_xcc[4][64], per_xcc[4][64]; uint8_t active_xcc[4][64];
  uint64_t reserved[3][64];
} violations;

#define ASK(handle)                                                                                                    \
  struct device *d = handle;                                                                                           \
  if (index_of(d) < 0) return INVAL;                                                                                   \
  int code_ = asked(__func__, d);                                                                                      \
  if (code_) return code_

static void text(struct device *d, const char *word, char *into) {
  memset(into, 0, LATE_TEXT);
  copy_text(d, word, into, LATE_TEXT);
}
static uint32_t number(struct device *d, const char *word) { return (uint32_t)whole_of(d, word, 0xFFFFFFFF); }

int amdsmi_init(uint64_t flags) { read_script(); return flags == 2 ? asked(__func__, NULL) : INVAL; }
int amdsmi_shut_down(void) { return asked(__func__, NULL); }
int amdsmi_get_lib_version(version_info *v) {
  read_script();
  int code = asked(__func__, NULL);
  if (code) return code;
  v->major = whole_of(&library, "major", 26), v->minor = whole_of(&library, "minor", 0);
  v->release = whole_of(&library, "release", 2), v->build = "fake";
  return SUCCESS;
}

/* A socket's handle is that of its first processor. */
int amdsmi_get_socket_handles(uint32_t *count, void **handles) {
  int code = asked(__func__, NULL), found = 0, most = wholes();
  if (code) return code;
  for (int i = 0; i < device_count && i < most; i++)
    if (!has(&devices[i], "socket")) {
      if (handles && found < (int)*count) handles[found] = &devices[i];
      found++;
    }
  *count = found;
  return SUCCESS;
}
int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **handles) {
  int code = asked(__func__, NULL), found = 0;
  if (code) return code;
  for (int i = 0; i < device_count; i++)
    if (&devices[i] == socket || &devices[whole_of(&devices[i], "socket", i)] == socket) {
      if (handles && found < (int)*count) handles[found] = &devices[i];
      found++;
    }
  *count = found;
  return SUCCESS;
}

int amdsmi_get_gpu_device_bdf(void *handle, uint64_t *bdf) {
  unsigned domain, bus, device, function;
  ASK(handle);
  if (sscanf(text_of(d, "bdf", ""), "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4) return NOT_SUPPORTED;
  *bdf = (uint64_t)domain << 16 | bus << 8 | device << 3 | function;
  return SUCCESS;
}
int amdsmi_get_gpu_asic_info(void *handle, asic_info *info) {
  ASK(handle);
  memset(info, 0, sizeof *info);
  text(d, "market", info->market_name), text(d, "unique", info->asic_serial);
  info->device_id = whole_of(d, "id", 0x74a1), info->subsystem_id = whole_of(d, "subsystem", 0x74a1);
  info->units = number(d, "units"), info->vendor_id = 0x1002;
  return SUCCESS;
}
int amdsmi_get_gpu_board_info(void *handle, board_info *info) {
  ASK(handle);
  memset(info, 0, sizeof *info);
  text(d, "name", info->name), text(d, "serial", info->serial), text(d, "board", info->model);
  return SUCCESS;
}
int amdsmi_get_gpu_kfd_info(void *handle, kfd_info *info) {
  ASK(handle);
  info->kfd_id = whole_of(d, "kfd", -1), info->node_id = number(d, "node"), info->partition = 0;
  return SUCCESS;
}
int amdsmi_get_gpu_vbios_info(void *handle, vbios_info *info) {
  ASK(handle);
  text(d, "vbios", info->part);
  return SUCCESS;
}
int amdsmi_get_gpu_driver_info(void *handle, driver_info *info) {
  ASK(handle);
  memset(info, 0, sizeof *info);
  snprintf(info->version, LATE_TEXT, "%s", FAKE_DRIVER);
  return SUCCESS;
}
int amdsmi_get_gpu_compute_partition(void *handle, char *into, uint32_t size) {
  ASK(handle);
  if (!has(d, "mode")) return NOT_SUPPORTED;
  return copy_text(d, "mode", into, size) < 0 ? 41 : SUCCESS;
}
int amdsmi_get_gpu_memory_total(void *handle, uint32_t kind, uint64_t *total) {
  ASK(handle);
  if (kind || !has(d, "memory")) return NOT_SUPPORTED;
  *total = whole_of(d, "memory", 0);
  return SUCCESS;
}
int amdsmi_get_power_cap_info(void *handle, uint32_t sensor, cap_info *info) {
  ASK(handle);
  if (sensor || !has(d, "cap")) return NOT_SUPPORTED;
  info->cap = whole_of(d, "cap", 0), info->standard = whole_of(d, "default_cap", 0), info->most = whole_of(d, "max_cap", 0);
  return SUCCESS;
}
int amdsmi_get_power_info(void *handle, power_info *info) {
  ASK(handle);
  d->reads++;
  info->socket = 0, info->current = number(d, "current"), info->average = number(d, "average");
  return SUCCESS;
}
int amdsmi_get_temp_metric(void *handle, uint32_t sensor, uint32_t metric, int64_t *value) {
  ASK(handle);
  const char *word = sensor == 1 ? "hotspot" : "edge";
  if (metric || sensor > 1 || !has(d, word)) return NOT_SUPPORTED;
  *value = whole_of(d, word, 0);
  return SUCCESS;
}
int amdsmi_get_clock_info(void *handle, uint32_t kind, clock_info *info) {
  ASK(handle);
  if (kind || !has(d, "clock")) return NOT_SUPPORTED;
  info->clock = number(d, "clock"), info->least = 0, info->most = number(d, "max_clock");
  return SUCCESS;
}
int amdsmi_get_gpu_activity(void *handle, usage_info *info) {
  ASK(handle);
  info->gfx = number(d, "usage");
  return SUCCESS;
}
int amdsmi_get_violation_status(void *handle, violations *info) {
  ASK(handle);
  if (!has(d, "residency")) return NOT_SUPPORTED;
  memset(info, 0xFF, sizeof *info);
  for (const char *state = text_of(d, "residency", ""); *state; state++)
    info->active[state - text_of(d, "residency", "")] = *state == '?' ? 0xFF : *state - '0';
  return SUCCESS;
}
int amdsmi_get_gpu_total_ecc_count(void *handle, error_count *count) {
  ASK(handle);
  if (!has(d, "uncorrected")) return NOT_SUPPORTED;
  count->uncorrected = whole_of(d, "uncorrected", 0), count->corrected = 77, count->deferred = 7;
  return SUCCESS;
}
int amdsmi_get_gpu_process_list(void *handle, uint32_t *count, void *list) {
  ASK(handle);
  if (*count || list || !has(d, "processes")) return NOT_SUPPORTED;
  *count = number(d, "processes");
  return SUCCESS;
}
int amdsmi_get_energy_count(void *handle, uint64_t *count, float *unit_uj, uint64_t *at_ns) {
  ASK(handle);
  if (!has(d, "energy")) return NOT_SUPPORTED;
  *count = whole_of(d, "energy", 0), *unit_uj = number_of(d, "unit", 15.3), *at_ns = 1;
  return SUCCESS;
}
