// The table of centres: filters as one types and sorts in place, where all centres are on the page. Without it, or with
// more of them, the form and the headers' links ask the server.
const table = document.querySelector("table[data-complete]"), form = document.querySelector("form.filters");
if (table && form) {
  const body = table.tBodies[0], rows = [...body.rows], count = document.getElementById("count");
  const none = document.getElementById("none");
  const compare = new Intl.Collator(document.documentElement.lang).compare;
  const filter = () => {
    const asked = new FormData(form), words = asked.get("q").toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const { text, city, district, class: classes, state } = row.dataset;
      const fits = words.every((word) => text.includes(word)) && ["", city].includes(asked.get("city"))
        && ["", district].includes(asked.get("district"))
        && (!asked.get("class") || classes.split(" ").includes(asked.get("class")))
        && ["", state].includes(asked.get("state"));
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = count.dataset.shown.replace("#", shown);
    none.hidden = shown > 0;
  };
  const { sort: by, order } = form.elements;
  const sort = () => {
    const key = `data-sort-${by.value}`, down = order.value === "desc";
    const value = (row) => row.getAttribute(key);
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)], numbers = /^-?\d+$/.test(x) && /^-?\d+$/.test(y);
      return (numbers ? Number(x) - Number(y) : compare(x, y)) * (down ? -1 : 1);
    });
    body.append(...rows);
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    const head = table.tHead.querySelector(`a[data-sort="${by.value}"]`).closest("th");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  form.addEventListener("input", (event) => [by, order].includes(event.target) ? sort() : filter());
  form.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
  table.tHead.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-sort]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    order.value = link.closest("th").getAttribute("aria-sort") === "ascending" ? "desc" : "asc";
    by.value = link.dataset.sort;
    sort();
  });
  if ([by, order].some((one) => !one.options[one.selectedIndex].hasAttribute("selected") && one.selectedIndex)) sort();
  filter(); // what was typed before this ran, or came back with the page
}
