/* A fake libcuda.so.1: cuInit and the queries that need no context, over the devices of the script (nvidia.h).
   CUDA_VISIBLE_DEVICES and MIG work as NVIDIA documents them. */
#include "nvidia.h"

#define NO_DEVICE 100
#define INVALID_DEVICE 101
#define UNKNOWN 999

static struct device *shown[MOST_DEVICES];
static int shown_count = -1;

static int cuda_lost(void) { return whole_of(&library, "cuda_lost", 0); }

static int by_address(const void *a, const void *b) {
  const struct device *x = *(struct device *const *)a, *y = *(struct device *const *)b;
  unsigned domain_x, bus_x, domain_y, bus_y;
  place_of((struct device *)x, &domain_x, &bus_x), place_of((struct device *)y, &domain_y, &bus_y);
  return domain_x != domain_y ? (domain_x < domain_y ? -1 : 1) : (int)bus_x - (int)bus_y;
}

/* Fill in the whole GPUs in CUDA's order: the fastest first unless PCI_BUS_ID is asked for. */
static int ordered(struct device **into) {
  struct device *wholes[MOST_DEVICES];
  const char *order = getenv("CUDA_DEVICE_ORDER");
  int count = 0, ordered_count = 0;
  char copy[TEXT], *rest = copy, *word;
  for (int i = 0; i < device_count; i++)
    if (!devices[i].parent && !(cuda_lost() == 1 && lost(&devices[i]))) wholes[count++] = &devices[i];
  memcpy(into, wholes, count * sizeof *into);
  snprintf(copy, sizeof copy, "%s", text_of(&library, "cuda_order", ""));
  while ((word = strsep(&rest, " ")) && ordered_count < count)
    if (*word) into[ordered_count++] = wholes[atoi(word)];
  if (order && !strcmp(order, "PCI_BUS_ID")) qsort(into, count, sizeof *into, by_address);
  return count;
}

static struct device *chosen(const char *word, struct device **wholes, int count) {
  struct device *found = NULL;
  char *end;
  long index = strtol(word, &end, 10);
  if (*word && !*end) return index >= 0 && index < count ? wholes[index] : NULL;
  for (int i = 0; i < device_count; i++)
    if (strlen(word) > 4 && !strncmp(text_of(&devices[i], "uuid", ""), word, strlen(word))) {
      if (found) return NULL; /* an abbreviation that is not unique */
      found = &devices[i];
    }
  return found;
}

static int show(void) {
  struct device *wholes[MOST_DEVICES], *instance = NULL;
  const char *visible = getenv("CUDA_VISIBLE_DEVICES");
  int count = ordered(wholes);
  shown_count = 0;
  if (!visible) memcpy(shown, wholes, sizeof shown), shown_count = count;
  else {
    char copy[1024], *rest = copy, *word;
    snprintf(copy, sizeof copy, "%s", visible);
    while ((word = strsep(&rest, ","))) { /* devices up to the first word that names none */
      struct device *found = chosen(word, wholes, count);
      if (!found) break;
      for (int i = 0; i < shown_count; i++)
        if (shown[i] == found) { shown_count = 0; return INVALID_DEVICE; }
      shown[shown_count++] = found;
    }
  }
  for (int i = 0; i < shown_count; i++)
    if (cuda_lost() == 2 && lost(shown[i])) { shown_count = 0; return UNKNOWN; }
  for (int i = 0; i < shown_count && !instance; i++) instance = shown[i]->parent ? shown[i] : part_at(shown[i], 0);
  if (instance) shown[0] = instance, shown_count = 1; /* one instance, and then no whole GPU */
  int kept = 0;
  for (int i = 0; i < shown_count; i++)
    if (shown[i]->parent || !whole_of(shown[i], "mig_mode", 0)) shown[kept++] = shown[i];
  shown_count = kept;
  if (has(&library, "cuda_shows") && visible) shown[0] = wholes[whole_of(&library, "cuda_shows", 0)];
  return shown_count ? 0 : NO_DEVICE;
}

int cuInit(unsigned flags) {
  read_script();
  int code = whole_of(&library, "cuda_init", 0);
  if (code < 0) abort();
  if (code) return code;
  return shown_count > 0 ? 0 : show();
}
int cuGetErrorName(int code, const char **name) {
  static char said[32];
  sprintf(said, code == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_%d", code);
  *name = said;
  return 0;
}
int cuDeviceGetCount(int *count) { *count = shown_count; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal < shown_count ? 0 : INVALID_DEVICE; }
int cuDeviceGetPCIBusId(char *into, int size, int device) {
  struct device *whole = shown[device]->parent ? shown[device]->parent : shown[device];
  unsigned domain, bus;
  place_of(whole, &domain, &bus);
  snprintf(into, size, "%04x:%02x:00.0", domain, bus);
  return 0;
}
static int uuid_of(struct device *device, unsigned char *into) {
  const char *from = strchr(text_of(device, "uuid", "-"), '-') + 1;
  for (int i = 0; i < 16; i++) {
    unsigned byte;
    while (*from == '-') from++;
    sscanf(from, "%2x", &byte), from += 2, into[i] = byte;
  }
  return 0;
}
int cuDeviceGetUuid(unsigned char *into, int device) {
  return uuid_of(shown[device]->parent ? shown[device]->parent : shown[device], into);
}
int cuDeviceGetUuid_v2(unsigned char *into, int device) { return uuid_of(shown[device], into); }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  struct device *d = shown[device], *whole = d->parent ? d->parent : d;
  int major = 0, minor = 0;
  sscanf(text_of(whole, "capability", ""), "%d %d", &major, &minor);
  *value = attribute == 16 ? whole_of(d, "sms", 0) : attribute == 38 ? whole_of(d, "l2", 0) : attribute == 75 ? major : minor;
  return attribute == 16 || attribute == 38 || attribute == 75 || attribute == 76 ? 0 : 1;
}
