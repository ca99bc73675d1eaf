/* A fake libdcmi: both generations of Huawei's device management interface. See script.h.

   A `device` is a card, a `part` is a unit on it: an NPU, or with `type 1` the chip that manages the card.
   Of a card: `serial` and `product` of its label. Of a unit: what its functions answer; a word that is left out answers
   "not supported" (-8255). `die`, `ddie` and `ndie` are five words in hex. Compiled with -DV2 the driver serves the second
   generation (`dcmiv2_`) and refuses the first; a card's number in the script is then its logic id.
   A reading begins with the temperature of a card's first unit. */
#define SCRIPT "FAKE_DCMI"
#define WORDS " card serial product type logic chip npu version cores die ddie ndie pci hbm ddr power temperature clock rated use ecc_off hbm_errors ddr_errors processes split "
#define LIBRARY_WORDS " dcmi_version "
#include "script.h"

#define REFUSED (-8255)
#define NOT_THERE (-8007)
#ifdef V2
#define FIRST(name) { int code = asked(name, NULL); return code ? code : REFUSED; }
#define SECOND(name)
#else
#define FIRST(name)
#define SECOND(name) { int code = asked(name, NULL); return code ? code : REFUSED; }
#endif

struct chip { char type[32], name[32], version[32]; unsigned cores; };
struct chip_v2 { struct chip chip; char npu[32]; };
struct pcie { unsigned device, vendor, subvendor, subdevice, bdf_device, bdf_bus, bdf_function; };
struct pcie_all { unsigned vendor, subvendor, device, subdevice; int domain; unsigned bdf_bus, bdf_device, bdf_function; char reserve[32]; };
struct label { char product[256], model[256], manufacturer[256], date[256], serial[256]; };
struct die { unsigned words[5]; };
struct ecc { int enabled; unsigned single, twice, total_single, total_twice, pages[4]; };
struct hbm { unsigned long long size; unsigned clock; unsigned long long used; int temperature; unsigned use; };
struct memory { unsigned long long size; unsigned clock, use; };
struct memory_v3 { unsigned long long size, available; unsigned clock; unsigned long page, pages, free; unsigned use; char reserve[60]; };
struct process { int pid; unsigned long used; };
struct totals { unsigned count, ids[32], groups, bits; unsigned long long rest[27]; };

static struct device *card_of(int card) {
  for (int i = 0; i < device_count; i++)
    if (!devices[i].parent && whole_of(&devices[i], "card", index_of(&devices[i])) == card) return &devices[i];
  return NULL;
}
static struct device *unit_of(int card, int place) {
  struct device *whole = card_of(card);
  return whole && place >= 0 ? part_at(whole, place) : NULL;
}
static struct device *numbered(int logic) {
  for (int i = 0; i < device_count; i++)
    if (devices[i].parent && whole_of(&devices[i], "logic", -1) == logic) return &devices[i];
  return NULL;
}
static int number(struct device *d, const char *word, void *into) {
  if (!has(d, word)) return REFUSED;
  unsigned value = (unsigned)whole_of(d, word, 0);
  memcpy(into, &value, sizeof value);
  return 0;
}
static void text(struct device *d, const char *word, char *into, size_t size) {
  memset(into, 0, size), copy_text(d, word, into, size);
}
static int type_of(struct device *d, void *into) {
  unsigned type = whole_of(d, "type", 0);
  return memcpy(into, &type, sizeof type), 0;
}
static int chip_of(struct device *d, struct chip *into) {
  if (!has(d, "chip")) return REFUSED;
  snprintf(into->type, 32, "Ascend"), text(d, "chip", into->name, 32), text(d, "version", into->version, 32);
  into->cores = whole_of(d, "cores", 0);
  return 0;
}
static int chip_v2_of(struct device *d, struct chip_v2 *into) {
  text(d, "npu", into->npu, 32);
  return chip_of(d, &into->chip);
}
static int place_of(struct device *d, unsigned *place) { /* domain, bus, device, function */
  return sscanf(text_of(d, "pci", ""), "%x:%x:%x.%x", place, place + 1, place + 2, place + 3) == 4 ? 0 : REFUSED;
}
static int pcie_all_of(struct device *d, struct pcie_all *into) {
  unsigned at[4];
  if (place_of(d, at)) return REFUSED;
  *into = (struct pcie_all){0x19e5, 0x19e5, 0xd803, 0x3003, at[0], at[1], at[2], at[3]};
  return 0;
}
static int label_of(struct device *d, struct label *into) {
  if (!has(d, "serial")) return REFUSED;
  memset(into, 0, sizeof *into), snprintf(into->manufacturer, 256, "Huawei");
  text(d, "serial", into->serial, 256), text(d, "product", into->product, 256);
  return 0;
}
static int die_of(struct device *d, int kind, struct die *into) {
  unsigned *w = into->words;
  const char *words = text_of(d, kind == 0 ? "ndie" : kind == 1 ? "die" : "ddie", "");
  return sscanf(words, "%x %x %x %x %x", w, w + 1, w + 2, w + 3, w + 4) == 5 ? 0 : REFUSED;
}
static int ecc_of(struct device *d, int memory, struct ecc *into) {
  memset(into, 0, sizeof *into), into->enabled = !has(d, "ecc_off");
  return memory == 0 || memory == 2 ? number(d, memory ? "hbm_errors" : "ddr_errors", &into->twice) : REFUSED;
}
static int hbm_of(struct device *d, struct hbm *into) {
  memset(into, 0, sizeof *into), into->size = whole_of(d, "hbm", 0);
  return has(d, "hbm") ? 0 : REFUSED;
}
static int clock_of(struct device *d, int which, unsigned *into) {
  return which == 7 ? number(d, "clock", into) : which == 9 ? number(d, "rated", into) : REFUSED;
}
static int use_of(struct device *d, int which, unsigned *into) { return which == 2 ? number(d, "use", into) : REFUSED; }
static int temperature_of(struct device *d, int *into) {
  struct device *whole = d->parent;
  if (part_at(whole, 0) == d) whole->reads++;
  return number(d, "temperature", into);
}
static int processes_of(struct device *d, struct process *into, int *count) {
  if (number(d, "processes", count)) return REFUSED;
  for (int i = 0; i < *count && i < 64; i++) into[i] = (struct process){4000 + i, 1 << 20};
  return 0;
}
static int split_of(struct device *d, unsigned command, unsigned part, void *into, unsigned *size) {
  if (command != 52 || part != 1 || *size < sizeof(struct totals)) return -8001;
  memset(into, 0, sizeof(struct totals));
  return number(d, "split", into);
}
static int version_of(const char *version, char *into, unsigned size) {
  if (strlen(version) >= size) return -8001;
  return strcpy(into, version), 0;
}

int dcmi_init(void) { read_script(); FIRST("dcmi_init") return asked("dcmi_init", NULL); }
int dcmiv2_init(void) { read_script(); SECOND("dcmiv2_init") return asked("dcmiv2_init", NULL); }

int dcmi_get_card_list(int *count, int *cards, int most) {
  FIRST("dcmi_get_card_list")
  int code = asked("dcmi_get_card_list", NULL);
  *count = wholes();
  for (int i = 0; i < *count && i < most; i++) cards[i] = whole_at(i) ? whole_of(whole_at(i), "card", index_of(whole_at(i))) : 99;
  return code;
}
int dcmi_get_device_num_in_card(int card, int *count) {
  FIRST("dcmi_get_device_num_in_card")
  struct device *whole = card_of(card);
  int code = asked("dcmi_get_device_num_in_card", whole);
  if (code || !whole) return code ? code : NOT_THERE;
  return *count = parts_of(whole), 0;
}
int dcmi_get_device_id_in_card(int card, int *most, int *management, int *control) {
  FIRST("dcmi_get_device_id_in_card")
  struct device *whole = card_of(card);
  int code = asked("dcmi_get_device_id_in_card", whole);
  if (code || !whole) return code ? code : NOT_THERE;
  *most = *control = *management = -1;
  for (int i = 0; i < parts_of(whole); i++)
    if (whole_of(part_at(whole, i), "type", 0) == 1) *management = i;
    else *most = i + 1;
  return 0;
}
int dcmiv2_get_device_list(int *list, int *count, int most) {
  SECOND("dcmiv2_get_device_list")
  int code = asked("dcmiv2_get_device_list", NULL);
  *count = 0;
  for (int i = 0; i < device_count && *count < most; i++)
    if (devices[i].parent) list[(*count)++] = whole_of(&devices[i], "logic", -1);
  return code;
}
int dcmi_get_device_logic_id(int *logic, int card, int place) {
  FIRST("dcmi_get_device_logic_id")
  struct device *d = unit_of(card, place);
  int code = asked("dcmi_get_device_logic_id", d);
  return code ? code : d ? number(d, "logic", logic) : NOT_THERE;
}
int dcmi_get_card_elabel_v2(int card, struct label *into) {
  FIRST("dcmi_get_card_elabel_v2")
  struct device *whole = card_of(card);
  int code = asked("dcmi_get_card_elabel_v2", whole);
  return code ? code : whole ? label_of(whole, into) : NOT_THERE;
}
int dcmi_get_driver_version(char *into, unsigned size) {
  FIRST("dcmi_get_driver_version")
  int code = asked("dcmi_get_driver_version", NULL);
  return code ? code : version_of(FAKE_DRIVER, into, size);
}
int dcmi_get_dcmi_version(char *into, unsigned size) {
  FIRST("dcmi_get_dcmi_version")
  int code = asked("dcmi_get_dcmi_version", NULL);
  return code ? code : version_of(text_of(&library, "dcmi_version", "24.1.0"), into, size);
}
int dcmiv2_get_driver_version(char *into, unsigned size) {
  SECOND("dcmiv2_get_driver_version")
  int code = asked("dcmiv2_get_driver_version", NULL);
  return code ? code : version_of(FAKE_DRIVER, into, size);
}
int dcmiv2_get_dcmi_version(char *into, int size) {
  SECOND("dcmiv2_get_dcmi_version")
  int code = asked("dcmiv2_get_dcmi_version", NULL);
  return code ? code : version_of(text_of(&library, "dcmi_version", "26.0.0"), into, size);
}

/* Both generations of a question: its name in each, its parameters behind the device, and the answer. */
#define NAMED(name) #name
#define ONCE(name, answer, ...) \
  int name(int card, int place, __VA_ARGS__) { \
    FIRST(NAMED(name)) \
    struct device *d = unit_of(card, place); \
    int code = asked(NAMED(name), d); \
    return code ? code : d ? (answer) : NOT_THERE; \
  }
#define AGAIN(name, answer, ...) \
  int name(int logic, __VA_ARGS__) { \
    SECOND(NAMED(name)) \
    struct device *d = numbered(logic); \
    int code = asked(NAMED(name), d); \
    return code ? code : d ? (answer) : NOT_THERE; \
  }
#define TWICE(first, second, answer, ...) ONCE(first, answer, __VA_ARGS__) AGAIN(second, answer, __VA_ARGS__)
TWICE(dcmi_get_device_type, dcmiv2_get_device_type, type_of(d, into), unsigned *into)
ONCE(dcmi_get_device_chip_info, chip_of(d, into), struct chip *into)
TWICE(dcmi_get_device_chip_info_v2, dcmiv2_get_device_chip_info, chip_v2_of(d, into), struct chip_v2 *into)
TWICE(dcmi_get_device_pcie_info_v2, dcmiv2_get_device_pcie_info, pcie_all_of(d, into), struct pcie_all *into)
TWICE(dcmi_get_device_elabel_info, dcmiv2_get_device_elabel_info, label_of(d->parent, into), struct label *into)
ONCE(dcmi_get_device_die, die_of(d, 1, into), struct die *into)
TWICE(dcmi_get_device_die_v2, dcmiv2_get_device_die_id, die_of(d, kind, into), int kind, struct die *into)
TWICE(dcmi_get_device_hbm_info, dcmiv2_get_device_hbm_info, hbm_of(d, into), struct hbm *into)
TWICE(dcmi_get_device_power_info, dcmiv2_get_device_power_info, number(d, "power", into), int *into)
TWICE(dcmi_get_device_temperature, dcmiv2_get_device_temperature, temperature_of(d, into), int *into)
TWICE(dcmi_get_device_frequency, dcmiv2_get_device_frequency, clock_of(d, which, into), int which, unsigned *into)
TWICE(dcmi_get_device_utilization_rate, dcmiv2_get_device_utilization_rate, use_of(d, which, into), int which, unsigned *into)
TWICE(dcmi_get_device_ecc_info, dcmiv2_get_device_ecc_info, ecc_of(d, memory, into), int memory, struct ecc *into)
TWICE(dcmi_get_device_resource_info, dcmiv2_get_device_proc_mem_info, processes_of(d, into, count), struct process *into, int *count)
TWICE(dcmi_get_device_info, dcmiv2_get_device_info, split_of(d, command, part, into, size), unsigned command, unsigned part, void *into, unsigned *size)


int dcmi_get_device_pcie_info(int card, int place, struct pcie *into) {
  FIRST("dcmi_get_device_pcie_info")
  struct device *d = unit_of(card, place);
  unsigned at[4];
  int code = asked("dcmi_get_device_pcie_info", d);
  if (code || !d || place_of(d, at)) return code ? code : d ? REFUSED : NOT_THERE;
  *into = (struct pcie){0xd803, 0x19e5, 0x19e5, 0x3003, at[2], at[1], at[3]};
  return 0;
}
int dcmi_get_device_memory_info_v2(int card, int place, struct memory *into) {
  FIRST("dcmi_get_device_memory_info_v2")
  struct device *d = unit_of(card, place);
  int code = asked("dcmi_get_device_memory_info_v2", d);
  if (code || !d || !has(d, "ddr")) return code ? code : d ? REFUSED : NOT_THERE;
  *into = (struct memory){whole_of(d, "ddr", 0), 2000, 10};
  return 0;
}
int dcmi_get_device_memory_info_v3(int card, int place, struct memory_v3 *into) {
  FIRST("dcmi_get_device_memory_info_v3")
  struct device *d = unit_of(card, place);
  int code = asked("dcmi_get_device_memory_info_v3", d);
  if (code || !d || !has(d, "ddr")) return code ? code : d ? REFUSED : NOT_THERE;
  memset(into, 0, sizeof *into), into->size = whole_of(d, "ddr", 0), into->available = into->size - 64;
  return 0;
}
