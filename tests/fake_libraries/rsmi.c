/* A fake librocm_smi64.so: as much of ROCm's older management library as petaseal calls (script.h). Of a device:

     name, serial, vbios TEXT           pci NUMBER (domain << 32, bus << 8, device << 3, function)
     unique, memory NUMBER              power (uW), current_power (uW), junction, edge (0.001 C), usage CURVE
     cap, cap_default, cap_max NUMBER   in uW
     clock CURVE                        in MHz; the library lists three frequencies, of which this is the one in use
     uncorrected, energy CURVE          energy in steps of 15.3 uJ

   With -DOLDER the frequencies have the layout of ROCm 5. An "answer" of 2 is "not supported", 4 "no permission". */
#define SCRIPT "FAKE_RSMI"
#define WORDS                                                                                                \
  " name serial vbios pci unique memory power current_power junction edge usage cap cap_default cap_max clock " \
  "uncorrected energy "
#include <stdbool.h>
#include <stdint.h>

#include "script.h"

#define INVALID 1
#define NOT_SUPPORTED 2
#define NO_DATA 14
#define INIT_ERROR 8

#ifdef OLDER
typedef struct { uint32_t num_supported, current; uint64_t frequency[32]; } frequencies;
#else
typedef struct { bool has_deep_sleep; uint32_t num_supported, current; uint64_t frequency[33]; } frequencies;
#endif
typedef struct { uint32_t major, minor, patch; const char *build; } version;
typedef struct { uint64_t correctable, uncorrectable; } error_count;

/* Find the device of an index, and the code with which the function answers of it. */
#define DEVICE_OF(index)                                                            \
  struct device *d = whole_at(index);                                               \
  int code_ = begun ? d ? asked(__func__, d) : INVALID : INIT_ERROR;                \
  if (code_) return code_
#define FILL(word, type, into) do { if (!has(d, word)) return NOT_SUPPORTED; *(into) = (type)whole_of(d, word, 0); return 0; } while (0)

int rsmi_init(uint64_t flags) { read_script(); return asked(__func__, NULL); }
int rsmi_shut_down(void) { return asked(__func__, NULL); }
int rsmi_num_monitor_devices(uint32_t *count) {
  int code = asked(__func__, NULL);
  if (!code) *count = wholes();
  return code;
}
static int text(struct device *d, const char *word, char *into, size_t size) {
  int length = copy_text(d, word, into, size);
  return length > 0 ? 0 : length ? 11 : NOT_SUPPORTED;
}
int rsmi_version_str_get(int component, char *into, uint32_t size) {
  int code = asked(__func__, NULL);
  snprintf(into, size, "%s", FAKE_DRIVER);
  return code;
}
int rsmi_version_get(version *into) {
  int code = asked(__func__, NULL);
  if (!code) *into = (version){7, 4, 1, "fake"};
  return code;
}
int rsmi_dev_name_get(uint32_t i, char *into, size_t size) { DEVICE_OF(i); return text(d, "name", into, size); }
int rsmi_dev_serial_number_get(uint32_t i, char *into, uint32_t size) { DEVICE_OF(i); return text(d, "serial", into, size); }
int rsmi_dev_vbios_version_get(uint32_t i, char *into, uint32_t size) { DEVICE_OF(i); return text(d, "vbios", into, size); }
int rsmi_dev_unique_id_get(uint32_t i, uint64_t *id) { DEVICE_OF(i); FILL("unique", uint64_t, id); }
int rsmi_dev_pci_id_get(uint32_t i, uint64_t *id) { DEVICE_OF(i); FILL("pci", uint64_t, id); }
int rsmi_dev_memory_total_get(uint32_t i, int kind, uint64_t *bytes) {
  DEVICE_OF(i);
  if (kind) return NOT_SUPPORTED;
  FILL("memory", uint64_t, bytes);
}
int rsmi_dev_power_cap_get(uint32_t i, uint32_t sensor, uint64_t *uw) { DEVICE_OF(i); FILL("cap", uint64_t, uw); }
int rsmi_dev_power_cap_default_get(uint32_t i, uint64_t *uw) { DEVICE_OF(i); FILL("cap_default", uint64_t, uw); }
int rsmi_dev_power_cap_range_get(uint32_t i, uint32_t sensor, uint64_t *most, uint64_t *least) {
  DEVICE_OF(i);
  *least = 0;
  FILL("cap_max", uint64_t, most);
}
int rsmi_dev_power_ave_get(uint32_t i, uint32_t sensor, uint64_t *uw) { DEVICE_OF(i); FILL("power", uint64_t, uw); }
int rsmi_dev_power_get(uint32_t i, uint64_t *uw, uint32_t *kind) {
  DEVICE_OF(i);
  *kind = !has(d, "current_power");
  if (has(d, "current_power")) FILL("current_power", uint64_t, uw);
  FILL("power", uint64_t, uw);
}
int rsmi_dev_temp_metric_get(uint32_t i, uint32_t sensor, int metric, int64_t *milli) {
  DEVICE_OF(i);
  if (metric || sensor > 1) return NOT_SUPPORTED;
  FILL(sensor ? "junction" : "edge", int64_t, milli);
}
int rsmi_dev_busy_percent_get(uint32_t i, uint32_t *percent) { DEVICE_OF(i); FILL("usage", uint32_t, percent); }
int rsmi_dev_gpu_clk_freq_get(uint32_t i, int kind, frequencies *f) {
  DEVICE_OF(i);
  d->reads++;
  if (kind || !has(d, "clock")) return NOT_SUPPORTED;
  memset(f, 0, sizeof *f);
  f->num_supported = 3, f->current = 1;
  f->frequency[0] = 300000000, f->frequency[1] = whole_of(d, "clock", 0) * 1000000, f->frequency[2] = 1800000000;
  return 0;
}
int rsmi_dev_ecc_count_get(uint32_t i, int block, error_count *count) {
  DEVICE_OF(i);
  if (block != 1) return NOT_SUPPORTED;
  count->correctable = 7;
  FILL("uncorrected", uint64_t, &count->uncorrectable);
}
int rsmi_dev_energy_count_get(uint32_t i, uint64_t *steps, float *resolution, uint64_t *timestamp) {
  DEVICE_OF(i);
  *resolution = 15.3, *timestamp = 1;
  FILL("energy", uint64_t, steps);
}
