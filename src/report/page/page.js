// Draws the report from the JSON in the page. Text from the target goes into text nodes only, never into markup.
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const sections = [];

// ---- Text.

// Control characters and what turns the direction of text are shown, not obeyed.
const HARMFUL = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const clean = (text) => String(text).replace(HARMFUL, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

const count = (n) => n.toLocaleString("en-US");
const counted = (n, noun) => count(n) + " " + noun + (n === 1 ? "" : "s");

// As the other forms of the report round: a half to the even side.
const even = (x) => x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);

function bytes(n) {
  if (n < 1024) return n + " B";
  const units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let value = n / 1024, unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) { value /= 1024; ++unit; }
  const places = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return even(value * 10 ** places).toFixed(0).padStart(places + 1, "0").replace(new RegExp("(\\d{" + places + "})$"), places ? ".$1" : "$1") + " " + units[unit];
}

const percent = (part, whole) => whole > 0 ? (100 * part / whole).toFixed(1) + " %" : "-";
const shorter = (type) => type.replace(/^builtins\./, "");
const dotted = (module, name) => module && module !== "builtins" ? module + "." + name : name;

// ---- Elements.

function el(tag, about, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(about || {})) {
    if (key === "text") node.textContent = clean(value);
    else if (key === "class") node.className = value;
    else if (key === "click") node.addEventListener("click", value);
    else if (value !== undefined && value !== null) node.setAttribute(key, value);
  }
  for (const child of children) {
    if (child !== null && child !== undefined) node.append(typeof child === "string" ? clean(child) : child);
  }
  return node;
}

const code = (text) => el("code", { text });
const name = (text) => el("span", { class: "name", text });

function section(id, title, intro, short) {
  const node = el("section", { id }, el("h2", { text: title }));
  if (intro) node.append(el("p", { class: "dim", text: intro }));
  main.append(node);
  sections.push({ id, title: short || title });
  return node;
}

// columns: { title, value(row), text(row), kind: "number" | "text" | "code" | "bar", share(row) }. Sorted by clicking a title.
function table(rows, columns, about = {}) {
  const limit = about.limit || 20;
  let shown = rows, all = false, by = about.sort === undefined ? -1 : about.sort, down = true;
  const body = el("tbody");
  const note = el("div");
  const heads = columns.map((column, i) => {
    const button = el("button", { type: "button", text: column.title, click: () => sort(i) });
    return el("th", { class: column.kind === "number" ? "number" : "", scope: "col" },
              column.kind === "bar" ? "" : button);
  });
  function cell(column, row) {
    if (column.kind === "bar") {
      const meter = el("div", { class: "meter" });
      meter.style.width = Math.max(0, Math.min(100, 100 * column.share(row))) + "%";
      return el("td", { class: "bar" }, meter);
    }
    const text = column.text ? column.text(row) : column.value(row);
    if (column.kind === "number") return el("td", { class: "number", text: text });
    return el("td", { class: "text" }, column.kind === "code" ? code(text) : name(text));
  }
  function draw() {
    const part = all ? shown : shown.slice(0, limit);
    body.replaceChildren(...part.map((row) => el("tr", {}, ...columns.map((column) => cell(column, row)))));
    note.replaceChildren();
    if (part.length < shown.length) {
      note.append(el("button", { type: "button", class: "more", text: "Show all " + count(shown.length),
                                 click: () => { all = true; draw(); } }));
    } else if (shown.length === 0) {
      note.append(el("p", { class: "dim", text: "none" }));
    }
    heads.forEach((head, i) => {
      if (i === by) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }
  function order() {
    if (by < 0) return;
    const value = columns[by].value;
    const way = down ? -1 : 1;
    shown = shown.slice().sort((a, b) => {
      const x = value(a), y = value(b);
      return way * (typeof x === "number" ? x - y : String(x) < String(y) ? -1 : String(x) > String(y) ? 1 : 0);
    });
  }
  function sort(i) {
    down = i === by ? !down : columns[i].kind === "number";
    by = i;
    order();
    draw();
  }
  const node = el("div", { class: "scroll" },
                  el("table", about.id ? { id: about.id } : {}, el("thead", {}, el("tr", {}, ...heads)), body), note);
  order();
  draw();
  node.choose = (test) => { shown = rows.filter(test); all = false; order(); draw(); };
  return node;
}

const number = (title, value) => ({ title, value, text: (row) => count(value(row)), kind: "number" });
const size = (title, value) => ({ title, value, text: (row) => bytes(value(row)), kind: "number" });
const share = (value, whole) => ({ title: "share", value, text: (row) => percent(value(row), whole), kind: "number" });
const bar = (value, whole) => ({ title: "", kind: "bar", share: (row) => whole > 0 ? value(row) / whole : 0 });
const words = (title, value, kind = "text") => ({ title, value: (row) => value(row) || "", kind });

// ---- What process this is.

const target = data.target;
const mapped = data.ledger.total.mapped_bytes;

function head() {
  const title = target.command || target.executable || "a process";
  document.title = clean("heapcore: " + title);
  const facts = [target.kind === "core" ? "core file " + (target.path || "") : "live process", "pid " + (target.pid || "unknown"),
                 target.python ? "CPython " + target.python + (target.python_build === "release" ? "" : ", " + target.python_build)
                               : "no Python that could be read",
                 target.libc || "no glibc malloc", counted(target.threads, "thread")];
  if (target.signal) facts.push("ended by signal " + target.signal);
  document.getElementById("head").append(el("h1", { text: title }), el("div", { class: "dim name", text: facts.join("  \u00b7  ") }), tiles());
}

function tiles() {
  const list = el("div", { class: "tiles" });
  const add = (id, figure, what) => list.append(el("div", { class: "tile", id }, el("b", { text: figure }), el("span", { text: what })));
  const found = data.findings;
  const high = found.filter((f) => f.severity === "high").length;
  add("tile-findings", found.length === 0 ? "none" : String(found.length), found.length === 0 ? "findings" :
      (found.length === 1 ? "finding" : "findings") + (high === 0 ? "" : high === found.length ? ", of high severity" : ", " + high + " of high severity"));
  const rss = data.ledger.total.rss_bytes;
  add("tile-mapped", bytes(mapped), rss ? "mapped, " + bytes(rss) + " of it resident" : "mapped");
  if (data.types) add("tile-python", bytes(data.types.total.bytes), counted(data.types.total.count, "Python object"));
  if (data.retained && data.retained.objects.length) {
    const top = data.retained.objects[0];
    add("tile-retained", bytes(top.retained_bytes), "held by the largest holder, a " + shorter(top.type));
  }
  const free = (data.pymalloc ? data.pymalloc.total.bytes_free : 0) + (data.malloc ? mallocFree() : 0);
  add("tile-free", bytes(free), "free, kept by the allocators");
  if (data.cycles) add("tile-garbage", bytes(data.cycles.garbage.retained_bytes), "held by uncollected garbage");
  return list;
}

function mallocFree() {
  const total = data.malloc.total;
  return Object.values(total.free).reduce((sum, kind) => sum + (kind.bytes || 0), 0) + total.top_bytes;
}

// ---- Findings.

function findings() {
  const node = section("findings", "Findings");
  if (data.findings.length === 0) {
    const box = el("div", { class: "finding none" }, el("h3", {}, el("span", { class: "badge", text: "nothing found" })));
    box.append(el("p", { text: "No finding reaches the size at which this report speaks of one. The figures above say how far from that the process is." }));
    node.append(box);
  }
  for (const finding of data.findings) {
    const box = el("div", { class: "finding " + finding.severity, "data-code": finding.code });
    box.append(el("h3", {}, el("span", { class: "badge", text: finding.severity + " \u00b7 " + bytes(finding.bytes) }), name(finding.title)));
    box.append(el("ul", {}, ...finding.evidence.map((line) => el("li", { class: "name", text: line }))));
    if (finding.advice) box.append(el("div", { class: "advice" }, el("b", { text: "What to do: " }), finding.advice));
    const see = finding.objects.slice(0, 6).join(" ");
    box.append(el("p", { class: "dim small" }, code(finding.code), see ? el("span", {}, " \u00b7 look at ", code(see)) : null));
    node.append(box);
  }
}

// ---- Where the memory is.

function kind(category) {
  if (category === "python objects") return "python";
  if (category === "python tables and buffers") return "tables";
  if (/ free$| reserved$/.test(category)) return "free";
  if (/ overhead$| lost$/.test(category)) return "overhead";
  if (/^malloc/.test(category)) return "malloc";
  if (/file$/.test(category)) return "file";
  return category === "stack" ? "stack" : "other";
}

function ledgerTree() {
  const root = { name: "all memory", bytes: mapped, children: [] };
  const categories = new Map();
  for (const row of data.ledger.ledger) {
    if (!categories.has(row.category)) {
      const entry = { name: row.category, kind: kind(row.category), bytes: 0, children: [] };
      categories.set(row.category, entry);
      root.children.push(entry);
    }
    const category = categories.get(row.category);
    category.bytes += row.bytes;
    const types = (row.types || []).map((type) => ({ name: type.type, kind: category.kind, bytes: type.bytes }));
    const rest = row.bytes - types.reduce((sum, type) => sum + type.bytes, 0);
    if (types.length && rest > 0) types.push({ name: "other types", kind: category.kind, bytes: rest });
    category.children.push({ name: row.detail || row.category, kind: category.kind, bytes: row.bytes, children: types });
  }
  root.children.sort((a, b) => b.bytes - a.bytes);
  return root;
}

// A treemap in which a click descends into what has parts.
function treemap(root) {
  const crumbs = el("div", { class: "crumbs", id: "treemap-crumbs" });
  const picture = el("div", { class: "picture", id: "treemap" });
  const aspect = [1000, 330];
  picture.style.height = aspect[1] + "px";
  function draw(node) {
    crumbs.replaceChildren(node === root ? el("b", { text: "All mapped memory, " + bytes(root.bytes) }) :
      el("button", { type: "button", text: "\u2190 All memory", click: () => draw(root) }));
    if (node !== root) crumbs.append(el("b", { text: node.name + ", " + bytes(node.bytes) + " (" + percent(node.bytes, root.bytes) + ")" }));
    const tree = d3.hierarchy({ parts: node.children }, (d) => d.parts).sum((d) => d.bytes || 0).sort((a, b) => b.value - a.value);
    d3.treemap().size(aspect).paddingInner(3)(tree);
    picture.replaceChildren(...(tree.children || []).filter((leaf) => leaf.x1 - leaf.x0 > 0.5 && leaf.y1 - leaf.y0 > 0.5).map((leaf) => {
      const part = leaf.data;
      const opens = part.children && part.children.length > 1;
      const text = part.name + "\n" + bytes(part.bytes) + ", " + percent(part.bytes, root.bytes) + " of all";
      const cell = el(opens ? "button" : "div", { class: "cell k-" + part.kind, "data-name": clean(part.name), title: clean(part.name) + "\n" + text.split("\n")[1] });
      if (opens) { cell.type = "button"; cell.addEventListener("click", () => draw(part)); }
      place(cell, leaf.x0 / aspect[0], leaf.x1 / aspect[0], leaf.y0, leaf.y1 - leaf.y0);
      if (leaf.x1 - leaf.x0 > 44 && leaf.y1 - leaf.y0 > 20)
        cell.append(el("b", { text: part.name }), el("span", { text: bytes(part.bytes) + " \u00b7 " + percent(part.bytes, root.bytes) }));
      return cell;
    }));
  }
  draw(root);
  return [crumbs, picture];
}

function place(cell, left, right, top, height) {
  cell.style.left = 100 * left + "%";
  cell.style.width = 100 * (right - left) + "%";
  cell.style.top = top + "px";
  cell.style.height = height + "px";
}

function ledger() {
  const node = section("memory", "Where the memory is",
    "Every mapped byte, by what it is. A click on a part of the picture shows what it is made of.", "Memory");
  const root = ledgerTree();
  node.append(...treemap(root));
  node.append(el("h3", { text: "The same as a table" }));
  node.append(table(root.children, [words("category", (r) => r.name), size("bytes", (r) => r.bytes), share((r) => r.bytes, mapped),
    bar((r) => r.bytes, mapped), words("largest part", (r) => r.children[0].name === r.name ? "" : r.children.reduce((a, b) => b.bytes > a.bytes ? b : a).name)],
    { id: "ledger-table", limit: 40 }));
  if (data.ledger.resident) {
    node.append(el("h3", { text: "What of it is resident" }), table(data.ledger.resident, [words("", (r) => r.what), size("mapped", (r) => r.mapped_bytes),
      size("resident", (r) => r.resident_bytes), size("swapped", (r) => r.swapped_bytes)], { id: "resident-table", limit: 20 }));
  }
}

// ---- Who holds it.

function hue(text) {
  let hash = 7;
  for (let i = 0; i < text.length; ++i) hash = (hash * 31 + text.charCodeAt(i)) >>> 0;
  return hash % 360;
}

function ownershipTree() {
  const nodes = data.ownership.map((row) => ({ type: row[1], edge: row[2], address: row[3], count: row[4], own: row[5], bytes: row[6], children: [] }));
  data.ownership.forEach((row, i) => { if (i > 0) nodes[row[0]].children.push(nodes[i]); });
  for (const node of nodes) node.rest = Math.max(0, node.bytes - node.children.reduce((sum, child) => sum + child.bytes, 0));
  return nodes[0];
}

// Every object stands below what holds it alone; its width is what it retains.
function flame(rootData) {
  const rowHeight = 22;
  const picture = el("div", { class: "picture flame", id: "flame" });
  const said = el("div", { class: "said small", id: "flame-said" });
  const root = d3.hierarchy(rootData, (d) => d.children).sum((d) => d.rest).sort((a, b) => (a.data.type === "") - (b.data.type === "") || b.value - a.value);
  d3.partition()(root);
  const left_out = (d) => !d.type && d !== rootData;
  const many = (d) => d.count > 1 ? " \u00d7 " + count(d.count) : "";
  const label = (d) => d === rootData ? "everything in use that something holds" : left_out(d) ? "(" + count(d.count) + " more)" :
    (d.edge ? d.edge + "  " : "") + shorter(d.type) + many(d);
  function tell(node) {
    const d = node.data;
    said.replaceChildren(el("b", { text: label(d) }), ": retains " + bytes(d.bytes) + " (" + percent(d.bytes, rootData.bytes) + ")" +
      (d.own ? ", of it " + bytes(d.own) + " its own" : "") + (d.address ? ", at " : ""),
      d.address ? code(d.address + (d.count > 1 ? " (the largest)" : "")) : "");
  }
  function draw(focus) {
    const x = (node) => (node.x0 - focus.x0) / (focus.x1 - focus.x0);
    const width = (node) => (node.x1 - node.x0) / (focus.x1 - focus.x0);
    const above = focus.ancestors().slice(1).reverse();
    const cells = [];
    let deepest = 0;
    const draw_one = (node, left, right, is_above) => {
      const d = node.data;
      const cell = el("button", { type: "button", class: "cell" + (left_out(d) ? " rest" : "") + (is_above ? " above" : ""), text: label(d) + "  " + bytes(d.bytes),
                                  title: clean(label(d)) + "\n" + bytes(d.bytes) });
      place(cell, left, right, node.depth * rowHeight, rowHeight - 1);
      if (!left_out(d)) cell.style.background = "hsl(" + hue(d.type) + " 45% var(--flame-light))";
      cell.addEventListener("click", () => { draw(node); tell(node); });
      cell.addEventListener("mouseenter", () => tell(node));
      cell.addEventListener("focus", () => tell(node));
      deepest = Math.max(deepest, node.depth);
      cells.push(cell);
    };
    for (const node of above) draw_one(node, 0, 1, true);
    focus.each((node) => { if (width(node) > 0.0012) draw_one(node, x(node), x(node) + width(node), false); });
    picture.replaceChildren(...cells);
    picture.style.height = (deepest + 1) * rowHeight + "px";
  }
  draw(root);
  tell(root);
  return [picture, said];
}

function holders() {
  if (!data.retained) return;
  const node = section("holders", "Who holds it",
    "An object stands below the one that alone keeps it alive; if the upper went, all below it would go. The width is the bytes held. " +
    "A click enlarges; objects of one type that hang on the same object are drawn as one.", "Holders");
  if (data.ownership && data.ownership.length > 1) node.append(...flame(ownershipTree()));
  const whole = data.retained.total.bytes;
  const columns = [size("retains", (r) => r.retained_bytes), share((r) => r.retained_bytes, whole), size("its own", (r) => r.bytes),
    words("type", (r) => shorter(r.type)), words("held by", (r) => r.path), words("address", (r) => r.address, "code")];
  node.append(el("h3", { text: "The largest holders" }), table(data.retained.objects, columns, { id: "retained-table", limit: 12 }));
  if (data.retained.accumulation_points.length)
    node.append(el("h3", { text: "Where the largest of these pile it up" }), table(data.retained.accumulation_points, columns, { limit: 8 }));
  const groups = (rows, title, text, id) => el("div", {}, el("h3", { text: title }), table(rows, [size("retain", (r) => r.retained_bytes),
    size("own", (r) => r.bytes), number("count", (r) => r.count), words(text, (r) => text === "module" ? r.module || "(raw blocks)" : dotted(r.module, r.name))],
    { id, limit: 10 }));
  node.append(el("div", { class: "two" }, groups(data.retained.types, "By type", "type", "retained-types"),
                 groups(data.retained.modules, "By module of the type", "module", "retained-modules")));
}

// ---- Types.

function types() {
  if (!data.types) return;
  const node = section("types", "Python objects, by type", "Bytes are what sys.getsizeof says: of a container without what it holds.", "Types");
  const whole = data.types.total.bytes;
  const grid = table(data.types.types, [words("type", (r) => dotted(r.module, r.name)), number("count", (r) => r.count), size("bytes", (r) => r.bytes),
    share((r) => r.bytes, whole), bar((r) => r.bytes, whole)], { id: "type-table", limit: 25, sort: 2 });
  const search = el("input", { type: "search", id: "type-search", placeholder: "Search types", "aria-label": "Search types" });
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    grid.choose((row) => dotted(row.module, row.name).toLowerCase().includes(wanted));
  });
  node.append(search, grid);
  node.append(el("p", { class: "dim small", id: "type-total", text: counted(data.types.total.count, "object") + ", " + bytes(whole) + " in all" +
    (data.types.left_out ? "; " + counted(data.types.left_out, "smaller type") + " not listed" : "") }));
}

// ---- Fragmentation.

// Of a cell of the map: how much of it is live, or null where nothing was ever put.
const liveShare = (c) => c >= "0" && c <= "9" ? (Number(c) + 1) / 10 : c === "." || c === "t" ? 0 : null;

const CELL_WORDS = { ".": "free", "-": "never used", "t": "free, the top", "?": "not in the snapshot" };

function color(variable) {
  const probe = el("i");
  probe.style.color = "var(" + variable + ")";
  document.body.append(probe);
  const rgb = getComputedStyle(probe).color.match(/\d+/g).map(Number);
  probe.remove();
  return rgb;
}

function paint(canvas, pages) {
  const perRow = Math.min(pages.length, 512);
  const rows = Math.ceil(pages.length / perRow);
  const scale = Math.max(1, Math.round(1024 / perRow));
  const height = rows === 1 ? 14 : 5;
  canvas.width = perRow * scale;
  canvas.height = rows * height;
  canvas.style.height = canvas.height + "px";
  const context = canvas.getContext("2d");
  const free = color("--cell-0"), live = color("--cell-1"), none = color("--cell-none");
  for (let i = 0; i < pages.length; ++i) {
    const part = liveShare(pages[i]);
    if (part === null && pages[i] !== "?") continue;
    const weight = part ? 0.25 + 0.75 * part : 0;
    const rgb = part === null ? none : free.map((from, channel) => Math.round(from + (live[channel] - from) * weight));
    context.fillStyle = "rgb(" + rgb.join(",") + ")";
    context.fillRect((i % perRow) * scale, Math.floor(i / perRow) * height, scale - (scale > 2 ? 1 : 0), height - (rows > 1 ? 1 : 0));
  }
}

function strip(arena, said) {
  const canvas = el("canvas", { role: "img", "aria-label": bytes(arena.bytes) + ", " + percent(arena.live_bytes, arena.bytes) + " live" });
  const label = el("div", { class: "label" }, code(arena.address), "  " + bytes(arena.bytes) + ", " + percent(arena.live_bytes, arena.bytes) + " live");
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect(), perRow = Math.min(arena.pages.length, 512), rows = Math.ceil(arena.pages.length / perRow);
    const column = Math.floor((event.clientX - box.left) / box.width * perRow), row = Math.floor((event.clientY - box.top) / box.height * rows);
    const i = Math.min(arena.pages.length - 1, Math.max(0, row * perRow + column)), c = arena.pages[i];
    said.textContent = "0x" + (BigInt(arena.address) + BigInt(i) * BigInt(arena.cell_bytes)).toString(16) + ", " + bytes(arena.cell_bytes) + ": " +
      (CELL_WORDS[c] || Number(c) * 10 + " to " + (Number(c) + 1) * 10 + " % live");
  });
  paint(canvas, arena.pages);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint(canvas, arena.pages));
  return el("div", { class: "strip" }, label, el("div", { class: "cells" }, canvas));
}

function map() {
  if (!data.map || !data.map.allocators.length) return;
  const node = section("map", "Fragmentation",
    "Each strip is memory that an allocator has from the system in one piece and can only give back whole (malloc: from its end). " +
    "A cell is a page; the darker, the more of it is live. The sparsest come first.");
  node.append(table(data.map.allocators, [words("allocator", (r) => r.allocator), number("arenas", (r) => r.arenas), size("held", (r) => r.bytes), size("live", (r) => r.live_bytes),
    { title: "live share", value: (r) => r.live_bytes / r.bytes, text: (r) => percent(r.live_bytes, r.bytes), kind: "number" }, size("free", (r) => r.free_bytes),
    size("overhead", (r) => r.overhead_bytes), number("wholly free arenas", (r) => r.free_arenas.count)], { id: "map-table" }));
  for (const row of data.map.emptying.filter((r) => r.percent === 25 && r.arenas > 1)) {
    node.append(el("p", { class: "small dim", text: "If the sparsest quarter of " + row.allocator + "'s arenas (" + count(row.arenas) + ") were emptied, " +
      bytes(row.freed_bytes) + " would go back; " + bytes(row.moved_bytes) + " live in them." }));
  }
  const said = el("div", { class: "said small code", id: "map-said" });
  for (const totals of data.map.allocators) {
    const arenas = data.map.arenas.filter((arena) => arena.allocator === totals.allocator);
    if (!arenas.length) continue;
    const box = el("div", { class: "strips", "data-allocator": totals.allocator });
    node.append(el("h3", { text: totals.allocator + ": " + counted(totals.arenas, "arena") + ", " + percent(totals.live_bytes, totals.bytes) + " live" }), box);
    let shown = 0;
    const more = el("button", { type: "button", class: "more", click: () => draw(500) });
    const draw = (limit) => {
      for (const stop = Math.min(arenas.length, shown + limit); shown < stop; ++shown) box.append(strip(arenas[shown], said));
      more.textContent = "Show " + count(Math.min(500, arenas.length - shown)) + " more of " + count(arenas.length - shown);
      more.hidden = shown === arenas.length;
    };
    draw(24);
    node.append(more);
  }
  node.append(el("div", { class: "scale" }, "free", el("i"), "all of it live"), said);
}

// ---- Pins.

function pins() {
  if (!data.pins || !data.pins.pins.length) return;
  const node = section("pins", "What keeps sparse memory from going back",
    "The live objects in arenas that are less than " + data.pins.below_percent + " % live, by type and holder. Several may keep the same arena, so the first column does not add up; " +
    "\u201calone\u201d counts arenas in which there is nothing else.", "Pins");
  node.append(table(data.pins.pins, [size("keeps", (r) => r.kept_bytes), number("arenas", (r) => r.arenas), size("alone keeps", (r) => r.alone_bytes), number("objects", (r) => r.count),
    size("live", (r) => r.bytes), words("allocator", (r) => r.allocator), words("type", (r) => shorter(r.type)), words("held by", (r) => r.held_by), words("one of them", (r) => r.objects[0], "code")],
    { id: "pin-table", limit: 12 }));
}

// ---- Waste.

function waste() {
  if (!data.waste || !data.waste.waste.length) return;
  const node = section("waste", "Waste", "What the same contents would do without; nothing is counted twice.");
  const kinds = Object.entries(data.waste.kinds).map(([kind, figures]) => ({ kind: kind.replace(/_/g, " "), ...figures })).filter((r) => r.count);
  const total = data.waste.total.wasted_bytes;
  node.append(table(kinds, [size("wasted", (r) => r.wasted_bytes), bar((r) => r.wasted_bytes, total), size("of", (r) => r.bytes), number("objects", (r) => r.count), words("what", (r) => r.kind)],
    { id: "waste-table", sort: 0 }));
  node.append(el("h3", { text: "By type and holder" }), table(data.waste.waste, [size("wasted", (r) => r.wasted_bytes), number("objects", (r) => r.count), words("what", (r) => r.kind.replace(/_/g, " ")),
    words("type", (r) => shorter(r.type)), words("held by", (r) => r.held_by || "several, or roots"), words("such as", (r) => r.path), words("one of them", (r) => r.objects[0], "code")], { limit: 10 }));
  if (data.waste.strings.length) {
    node.append(el("h3", { text: "Strings with equal contents" }), table(data.waste.strings, [size("wasted", (r) => r.wasted_bytes), number("copies", (r) => r.count), number("length", (r) => r.length),
      words("type", (r) => r.text === null ? r.type : r.type + " " + r.text), words("such as", (r) => r.path), words("one of them", (r) => r.objects[0], "code")], { limit: 8 }));
  }
}

// ---- Cycles and garbage.

function cycles() {
  if (!data.cycles) return;
  const node = section("cycles", "Cycles and garbage");
  const garbage = data.cycles.garbage;
  node.append(el("p", { text: counted(garbage.count, "object") + " of uncollected garbage hold " + bytes(garbage.retained_bytes) +
    (data.cycles.gc_enabled ? "." : ". The collector is switched off.") }));
  node.append(table(data.cycles.cycles, [size("retained", (r) => r.retained_bytes), number("cycles", (r) => r.count), number("blocks", (r) => r.objects),
    words("state", (r) => r.garbage ? "garbage" : r.reachable ? "in use" : "unreachable"), words("cycle", (r) => r.text), words("one of them", (r) => r.example, "code")],
    { id: "cycle-table", limit: 10 }));
  if (garbage.types.length)
    node.append(el("h3", { text: "Garbage, by type" }), table(garbage.types, [number("count", (r) => r.count), size("bytes", (r) => r.bytes),
      words("type", (r) => dotted(r.module, r.name) + (r.has_finalizer ? " (has a __del__)" : ""))], { limit: 10 }));
  if (data.audit && data.audit.types.length)
    node.append(el("h3", { text: "Counted more references than were found" }), table(data.audit.types, [number("references too many", (r) => r.excess_references),
      number("objects", (r) => r.count), number("held by nothing", (r) => r.lost), size("bytes", (r) => r.bytes), words("type", (r) => r.type)], { limit: 8 }));
}

// ---- Threads.

function frame(f) {
  const where = f.file ? " (" + f.file + (f.line ? ":" + f.line : "") + ")" : "";
  const node = el("li", { class: f.kind === "python" ? "name" : "native name" }, (f.function || f.address) + where +
    (f.retained_bytes ? ", its locals alone hold " + bytes(f.retained_bytes) : ""));
  const held = f.locals || [];
  if (held.length) node.append(el("ul", {}, ...held.map((local) => el("li", { class: "name", text: local.name + " = " + (local.type || "object") + ", " + bytes(local.retained_bytes) }))));
  return node;
}

function threads() {
  if (!data.threads) return;
  const node = section("threads", "Threads");
  const list = data.threads.threads;
  for (const thread of list) {
    const python = thread.frames.filter((f) => f.kind === "python");
    const held = thread.retained_bytes;
    const title = (thread.tid ? "Thread " + thread.tid : "Thread state without a thread") +
      (thread.python_name || thread.name ? " \u201c" + (thread.python_name || thread.name) + "\u201d" : "") +
      (python.length ? ": " + python[0].function + " (" + python[0].file + ":" + python[0].line + ")" : ": no Python frame") +
      (held ? ", its locals hold " + bytes(held) : "");
    const box = el("details", list.length === 1 ? { open: "" } : {}, el("summary", { class: "name", text: title }));
    box.append(el("ol", { class: "frames" }, ...thread.frames.map(frame),
                  thread.left_out ? el("li", { class: "dim", text: counted(thread.left_out, "more frame") }) : null));
    node.append(box);
  }
  if (data.threads.left_out) node.append(el("p", { class: "dim", text: counted(data.threads.left_out, "more thread") }));
  if (data.threads.tasks.length || data.threads.tasks_ended) {
    node.append(el("h3", { text: "asyncio: " + counted(data.threads.tasks_count || data.threads.tasks.length, "task") + " pending, " + count(data.threads.tasks_ended) + " ended" }));
    node.append(table(data.threads.tasks, [size("retains", (r) => r.retained_bytes), words("name", (r) => r.name),
      words("stands in", (r) => r.function ? r.function + " (" + r.file + ":" + r.line + ")" : ""), words("waits for", (r) => r.waits_for_type)], { limit: 15 }));
  }
}

// ---- Allocators.

function allocators() {
  if (!data.pymalloc && !data.malloc) return;
  const node = section("allocators", "Allocators");
  if (data.pymalloc) {
    const total = data.pymalloc.total;
    node.append(el("h3", { text: "CPython's " + data.pymalloc.allocator }), el("p", { text: counted(total.arenas, "arena") + ", " + bytes(total.bytes) + ": " +
      bytes(total.bytes_in_use) + " in use (" + percent(total.bytes_in_use, total.bytes) + "), " + bytes(total.bytes_free) + " free" }));
    node.append(table(data.pymalloc.classes, [number("block bytes", (r) => r.block_bytes), number("pools", (r) => r.pools), number("in use", (r) => r.blocks_in_use),
      number("free", (r) => r.blocks_free), size("bytes in use", (r) => r.blocks_in_use * r.block_bytes),
      { title: "filled", value: (r) => r.blocks_in_use / (r.blocks_in_use + r.blocks_free), text: (r) => percent(r.blocks_in_use, r.blocks_in_use + r.blocks_free), kind: "number" }],
      { limit: 10, sort: 4 }));
  }
  if (data.malloc) {
    const free = (arena) => Object.values(arena.free).reduce((sum, kind) => sum + (kind.bytes || 0), 0);
    node.append(el("h3", { text: "malloc" }), el("p", { id: "trim", text: "malloc_trim(0) would return " + bytes(data.malloc.trim.releasable_bytes || 0) + "; " +
      counted(data.malloc.mmapped.count, "mmapped chunk") + " of " + bytes(data.malloc.mmapped.bytes) + " in all" }));
    node.append(table(data.malloc.arenas, [words("arena", (r) => r.main ? "main" : r.address, "code"), size("system", (r) => r.system_bytes), size("in use", (r) => r.in_use.bytes),
      size("free", free), size("top", (r) => r.top_bytes), size("trim returns", (r) => r.trim ? r.trim.releasable_bytes || 0 : 0)], { limit: 10, sort: 1 }));
    if (data.malloc_owners) {
      const owned = data.malloc_owners;
      const rows = owned.owners.concat(owned.unowned.count ? [{ owner: "nobody that was found", ...owned.unowned }] : []);
      node.append(el("h3", { text: "Whose malloc's chunks in use are" }), table(rows, [size("bytes", (r) => r.bytes), share((r) => r.bytes, owned.total.bytes),
        number("chunks", (r) => r.count), words("of", (r) => shorter(r.owner))], { id: "owner-table", limit: 10, sort: 0 }));
    }
  }
}

// ---- Native memory.

function native() {
  if (!data.native || !data.native.clusters_count && !data.native.classes_count) return;
  const node = section("native", "Native memory",
    "Malloc\u2019s chunks that no Python object owns: " + counted(data.native.total.count, "chunk") + ", " + bytes(data.native.total.bytes) +
    ". C++ objects are counted by class wherever they are, those that Python objects own too.");
  const sample = (r) => r.samples.length ? r.samples[0].address + (r.samples[0].text ? " " + r.samples[0].text : "") : "";
  if (data.native.classes.length) {
    node.append(el("h3", { text: "C++ objects, by class" }), table(data.native.classes, [size("bytes", (r) => r.bytes), number("count", (r) => r.count),
      number("no Python object\u2019s", (r) => r.unowned.count), words("class", (r) => r.name), words("its vtable is in", (r) => r.module), words("one of them", sample, "code")],
      { id: "class-table", limit: 10 }));
  }
  const sizes = (r) => count(r.size_from) + (r.size_to > r.size_from ? " to " + count(r.size_to) : "");
  node.append(el("h3", { text: "The other chunks, by what they are like" }), table(data.native.clusters, [size("bytes", (r) => r.bytes), number("count", (r) => r.count),
    { title: "chunk bytes", value: (r) => r.size_from, text: sizes, kind: "number" }, words("content", (r) => r.content), words("held by", (r) => r.held_by || "nothing"),
    words("begins with", (r) => r.first_word), words("one of them", sample, "code")], { id: "cluster-table", limit: 10 }));
}

// ---- Confidence.

function confidence() {
  const node = section("confidence", "How far to trust this", "", "Confidence");
  const list = el("dl");
  const add = (what, said) => list.append(el("dt", { text: what }), el("dd", { class: "name", text: said }));
  const c = data.confidence;
  add("Explained", percent(c.explained_bytes, c.mapped_bytes) + " of the mapped bytes, " + bytes(c.explained_bytes) + " of " + bytes(c.mapped_bytes));
  add("Not in the snapshot", bytes(c.not_dumped_bytes));
  if (c.python) add("Python", c.python.version + ", " + c.python.build + " build" + (c.python.decoded ? ", found by " + c.python.located_by + ", layout of " + c.python.layout : ", not decoded"));
  if (c.malloc) add("malloc", c.malloc.version + ", found by " + c.malloc.located_by + ", layout of " + c.malloc.layout + " (" + c.malloc.layout_source + ")");
  if (c.collector_lists_agree !== null) add("Collector\u2019s lists", c.collector_lists_agree ? "agree with the objects found" : "do not agree with the objects found");
  node.append(list, el("h3", { text: "What it cannot tell" }), el("ul", {}, ...c.cannot_tell.map((line) => el("li", { text: line }))));
  const said = data.warnings.concat(data.notes);
  node.append(el("h3", { text: "Warnings and notes" }));
  if (said.length === 0) node.append(el("p", { class: "dim", text: "none" }));
  else node.append(table(said, [words("code", (r) => r.code, "code"), number("seen", (r) => r.seen), words("message", (r) => r.message), words("at", (r) => r.address, "code")], { limit: 12 }));
}

head();
findings();
ledger();
holders();
types();
map();
pins();
waste();
cycles();
threads();
allocators();
native();
confidence();
document.getElementById("nav").append(el("div", {}, ...sections.map((s) => el("a", { href: "#" + s.id, text: s.title }))));
main.after(el("footer", { text: "Made by heapcore " + data.heapcore + ". This page holds all it shows and loads nothing." }));
})();
