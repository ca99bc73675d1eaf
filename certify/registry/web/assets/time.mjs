// Beside each time in UTC its reader's own: the zone is the browser's. Where that is UTC, nothing is added.
const zone = new Intl.DateTimeFormat().resolvedOptions().timeZone;
const local = (at, options) => new Intl.DateTimeFormat("sv", { timeZone: zone, ...options }).format(at); // ISO 8601
for (const node of document.querySelectorAll("time[datetime]")) {
  const at = new Date(node.dateTime);
  if (Number.isNaN(at.getTime()) || at.getTimezoneOffset() === 0) continue;
  const offset = new Intl.DateTimeFormat("en", { timeZone: zone, timeZoneName: "longOffset" }).formatToParts(at)
    .find((part) => part.type === "timeZoneName").value.replace("GMT", "UTC");
  const whole = `${local(at, { dateStyle: "short", timeStyle: "medium" })} ${offset}`;
  const day = local(at, { dateStyle: "short" }), isDay = node.hasAttribute("title");
  if (isDay) node.title += ` UTC (${whole})`;
  if (isDay && node.textContent === day) continue; // the same day in both
  const shown = document.createElement("span");
  shown.className = "local soft";
  shown.textContent = `(${isDay ? `${day} ${offset}` : whole})`;
  node.after(" ", shown);
}
