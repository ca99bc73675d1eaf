/* A fake libcuda.so.1: cuInit and the queries that need no context, over the devices of the script (script.h).
   CUDA_VISIBLE_DEVICES and MIG work as NVIDIA documents them. Built with -DOLD there is no cuDeviceGetUuid_v2. */
#include "script.h"

#define NO_DEVICE 100
#define INVALID_DEVICE 101
#define UNKNOWN 999

static struct device *shown[MOST_DEVICES];
static int shown_count = -1;

static struct device *first_instance(struct device *whole) {
  for (int i = 0; i < device_count; i++)
    if (devices[i].parent == whole) return &devices[i];
  return NULL;
}

static int by_address(const void *a, const void *b) {
  const struct device *x = *(struct device *const *)a, *y = *(struct device *const *)b;
  return x->domain != y->domain ? (x->domain < y->domain ? -1 : 1) : (int)x->bus - (int)y->bus;
}

/* Fill in the whole GPUs in CUDA's order: the fastest first unless PCI_BUS_ID is asked for. */
static int ordered(struct device **into) {
  struct device *wholes[MOST_DEVICES];
  const char *order = getenv("CUDA_DEVICE_ORDER");
  int count = 0;
  for (int i = 0; i < device_count; i++)
    if (!devices[i].parent && !(cuda_lost == 1 && value_of(&devices[i], LOST))) wholes[count++] = &devices[i];
  for (int i = 0; i < count; i++) into[i] = i < cuda_ordered ? wholes[cuda_order[i]] : wholes[i];
  if (order && !strcmp(order, "PCI_BUS_ID")) qsort(into, count, sizeof *into, by_address);
  return count;
}

static struct device *chosen(const char *word, struct device **wholes, int count) {
  struct device *found = NULL;
  char *end;
  long index = strtol(word, &end, 10);
  if (*word && !*end) return index >= 0 && index < count ? wholes[index] : NULL;
  for (int i = 0; i < device_count; i++)
    if (strlen(word) > 4 && !strncmp(devices[i].uuid, word, strlen(word))) {
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
    if (cuda_lost == 2 && value_of(shown[i], LOST)) { shown_count = 0; return UNKNOWN; }
  for (int i = 0; i < shown_count && !instance; i++) instance = shown[i]->parent ? shown[i] : first_instance(shown[i]);
  if (instance) shown[0] = instance, shown_count = 1; /* one instance, and then no whole GPU */
  int kept = 0;
  for (int i = 0; i < shown_count; i++)
    if (shown[i]->parent || !shown[i]->mig_mode) shown[kept++] = shown[i];
  shown_count = kept;
  if (cuda_shows >= 0 && visible) shown[0] = wholes[cuda_shows];
  return shown_count ? 0 : NO_DEVICE;
}

int cuInit(unsigned flags) {
  read_script();
  if (cuda_init < 0) abort();
  if (cuda_init) return cuda_init;
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
  snprintf(into, size, "%04x:%02x:00.0", whole->domain, whole->bus);
  return 0;
}
static int uuid_of(struct device *device, unsigned char *into) {
  const char *from = strchr(device->uuid, '-') + 1;
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
#ifndef OLD
int cuDeviceGetUuid_v2(unsigned char *into, int device) { return uuid_of(shown[device], into); }
#endif
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  struct device *d = shown[device], *whole = d->parent ? d->parent : d;
  *value = attribute == 16 ? d->sms : attribute == 38 ? d->l2 : attribute == 75 ? whole->major : whole->minor;
  return attribute == 16 || attribute == 38 || attribute == 75 || attribute == 76 ? 0 : 1;
}
