"""The HTML report in a headless Chromium: it loads nothing, complains of nothing, answers clicks, and says the right numbers."""

import json
import os
import re
import subprocess
import unittest

import browser
import harness

PASSWORD = "xyzzy-9f31c07b"
MOST_BYTES = 3 << 20
SAMPLE_CORE = os.path.join(harness.ROOT, "testdata", "leaky_worker.core.zst")


def bytes_text(n):
    """As every form of the report writes a size."""
    if n < 1024:
        return "%d B" % n
    value, unit = n / 1024, 0
    while value >= 1023.5:
        value, unit = value / 1024, unit + 1
    return "%.*f %s" % (2 if value < 9.995 else 1 if value < 99.95 else 0, value, ("KiB", "MiB", "GiB")[unit])


class Page(harness.TargetTest):
    @classmethod
    def setUpClass(cls):
        if browser.program() is None:
            harness.skipped("the HTML report in a browser", "Chromium is not installed")
            raise unittest.SkipTest("no Chromium")
        cls.directory = cls.temporary_directory()
        cls.browser = browser.Browser()
        cls.addClassCleanup(cls.browser.close)

    @classmethod
    def make(cls, *target):
        cls.path = os.path.join(cls.directory, "report.html")
        answer = harness.heapcore("report", *target, "-o", cls.path)
        assert answer.status in (0, 1), str(answer)
        cls.report = harness.heapcore("report", *target, "--json").document

    def setUp(self):
        self.browser.open(self.path)

    def tearDown(self):
        self.assertEqual(self.browser.complaints(), [])
        self.assertEqual(self.browser.requests(), ["file://" + self.path])

    def texts(self, selector):
        return self.browser.evaluate("[...document.querySelectorAll(%s)].map((e) => e.textContent)" % json.dumps(selector))

    def column(self, table, number):
        return self.texts("#%s tbody td:nth-child(%d)" % (table, number))

    def cells(self):
        return self.browser.evaluate("[...document.querySelectorAll('#treemap .cell')].map((e) => e.dataset.name)")


class Sample(Page, unittest.TestCase):
    """Of the core in testdata, which is the same everywhere."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.make(SAMPLE_CORE)

    def test_it_is_one_small_file(self):
        self.assertLess(os.path.getsize(self.path), MOST_BYTES)
        with open(self.path, encoding="utf-8") as file:
            text = file.read()
        self.assertNotRegex(text, r"<(link|img|iframe|object|embed|base)\b")
        self.assertNotRegex(text, r"\b(src|href|srcset|action)\s*=\s*[\"']?(https?:|//|file:)")
        self.assertIn("Redistributions in binary form must reproduce", text)  # the notice of d3-hierarchy

    def test_figures(self):
        report = self.report
        self.assertEqual(self.texts("#tile-mapped b"), [bytes_text(report["ledger"]["total"]["mapped_bytes"])])
        self.assertEqual(self.texts("#tile-python b"), [bytes_text(report["types"]["total"]["bytes"])])
        self.assertEqual(self.texts("#tile-retained b"), [bytes_text(report["retained"]["objects"][0]["retained_bytes"])])
        self.assertEqual(self.texts("#tile-garbage b"), [bytes_text(report["cycles"]["garbage"]["retained_bytes"])])
        titles = self.texts(".finding:not(.none) h3")
        self.assertEqual(len(titles), len(report["findings"]))
        for title, finding in zip(titles, report["findings"]):
            self.assertIn(finding["title"], title)
        self.assertEqual(self.column("retained-table", 1), [bytes_text(r["retained_bytes"]) for r in report["retained"]["objects"][:12]])
        self.assertEqual(self.column("retained-table", 5), [r["path"] for r in report["retained"]["objects"][:12]])

    def test_treemap_descends(self):
        rows = self.report["ledger"]["ledger"]
        categories = {row["category"] for row in rows}
        shown = self.cells()
        self.assertTrue(set(shown) <= categories)
        self.assertIn("file", shown)
        files = sorted((row for row in rows if row["category"] == "file"), key=lambda row: -row["bytes"])
        total = sum(row["bytes"] for row in files)
        self.browser.click('#treemap .cell[data-name="file"]')
        self.assertEqual(self.cells()[0], files[0]["detail"])
        self.assertIn("file, " + bytes_text(total), self.texts("#treemap-crumbs")[0])
        self.assertIn(bytes_text(files[0]["bytes"]), self.texts("#treemap .cell")[0])
        self.browser.click("#treemap-crumbs button")
        self.assertEqual(self.cells(), shown)

    def test_treemap_shares_its_room_fairly(self):
        areas = self.browser.evaluate("[...document.querySelectorAll('#treemap .cell')].map((e) => {"
                                      "const r = e.getBoundingClientRect(); return [e.dataset.name, r.width * r.height]; })")
        totals = {}
        for row in self.report["ledger"]["ledger"]:
            totals[row["category"]] = totals.get(row["category"], 0) + row["bytes"]
        whole = sum(area for _, area in areas)
        for name, area in areas:
            if totals[name] > 0.05 * sum(totals.values()):
                self.assertAlmostEqual(area / whole, totals[name] / sum(totals.values()), delta=0.03, msg=name)

    def test_types_sort(self):
        rows = self.report["types"]["types"]
        name = lambda row: row["name"] if row["module"] in ("", "builtins") else row["module"] + "." + row["name"]
        self.assertEqual(self.column("type-table", 3), [bytes_text(row["bytes"]) for row in rows[:25]])
        self.browser.click("#type-table th:nth-child(2) button")
        counts = sorted((row["count"] for row in rows), reverse=True)
        self.assertEqual(self.column("type-table", 2), [format(n, ",") for n in counts[:25]])
        self.browser.click("#type-table th:nth-child(2) button")
        self.assertEqual(self.column("type-table", 2), [format(n, ",") for n in sorted(counts)[:25]])
        self.browser.click("#type-table th:nth-child(1) button")
        self.assertEqual(self.column("type-table", 1), sorted(map(name, rows))[:25])
        self.assertEqual(self.browser.evaluate("document.querySelector('#type-table th').getAttribute('aria-sort')"), "ascending")

    def test_types_search(self):
        rows = [row for row in self.report["types"]["types"] if "dict" in (row["module"] + "." + row["name"]).lower()]
        self.browser.type("#type-search", "DICT")
        shown = dict(zip(self.column("type-table", 1), self.column("type-table", 2)))
        self.assertEqual(len(shown), min(25, len({(r["module"], r["name"]) for r in rows})))
        self.assertTrue(all("dict" in name.lower() for name in shown))
        self.assertEqual(shown["dict"], format(next(r["count"] for r in rows if r["name"] == "dict"), ","))
        self.browser.type("#type-search", "no such type")
        self.assertEqual(self.column("type-table", 1), [])

    def test_flame_enlarges(self):
        count = "document.querySelectorAll('#flame .cell').length"
        whole = self.browser.evaluate(count)
        self.assertGreater(whole, 10)
        total = self.browser.evaluate("document.querySelector('#flame .cell').textContent")
        self.assertIn("everything in use that something holds", total)
        self.browser.click("#flame .cell:nth-child(2)")
        first = self.report["retained"]["objects"][0]
        self.assertIn(bytes_text(first["retained_bytes"]), self.texts("#flame-said")[0])
        width = self.browser.evaluate("(() => { const all = document.querySelector('#flame').clientWidth;"
                                      "return document.querySelector('#flame .cell:nth-child(2)').offsetWidth / all; })()")
        self.assertAlmostEqual(width, 1, places=2)
        self.browser.click("#flame .cell")
        self.assertEqual(self.browser.evaluate(count), whole)

    def test_map_has_a_cell_a_page(self):
        arenas = [a for a in self.report["map"]["arenas"] if a["allocator"] == "obmalloc"]
        labels = self.texts("#map .strips[data-allocator=obmalloc] .label")
        self.assertEqual(len(labels), len(arenas))
        for label, arena in zip(labels, arenas):
            self.assertIn("%s  %s, %.1f %% live" % (arena["address"], bytes_text(arena["bytes"]),
                                                     100 * arena["live_bytes"] / arena["bytes"]), label)
        rows = [[r["allocator"], format(r["arenas"], ","), bytes_text(r["bytes"]), bytes_text(r["live_bytes"])]
                for r in self.report["map"]["allocators"]]
        self.assertEqual([list(row) for row in zip(*(self.column("map-table", i) for i in (1, 2, 3, 4)))], rows)
        # The first strip, cell by cell: what is live is darker than what is not, and what was never used is not drawn.
        pages = arenas[0]["pages"]
        colors = self.browser.evaluate("""(() => {
            const canvas = document.querySelector('#map .strips[data-allocator=obmalloc] canvas'), step = canvas.width / %d;
            const line = canvas.getContext('2d').getImageData(0, 3, canvas.width, 1).data;
            const at = (i) => 4 * Math.floor(i * step + step / 3);
            return [...Array(%d).keys()].map((i) => [...line.slice(at(i), at(i) + 4)]);
            })()""" % (len(pages), len(pages)))
        light = {}
        for page, (red, green, blue, opaque) in zip(pages, colors):
            self.assertEqual(opaque, 0 if page == "-" else 255, page)
            light.setdefault(page, set()).add(red)
        self.assertTrue(all(len(shades) == 1 for shades in light.values()), light)
        order = [light[page].pop() for page in ".0123456789" if page in light]
        self.assertEqual(order, sorted(order, reverse=True))
        self.assertGreater(len(order), 3)

    def test_owners_of_chunks(self):
        owners = self.report["malloc_owners"]
        sizes = sorted([row["bytes"] for row in owners["owners"]] + [owners["unowned"]["bytes"]] * bool(owners["unowned"]["count"]))
        self.assertEqual(self.column("owner-table", 1), [bytes_text(n) for n in sizes[::-1][:10]])

    def test_pins_and_waste(self):
        pins = self.report["pins"]["pins"]
        self.assertEqual(self.column("pin-table", 1), [bytes_text(pin["kept_bytes"]) for pin in pins[:12]])
        kinds = sorted(self.report["waste"]["kinds"].values(), key=lambda kind: -kind["wasted_bytes"])
        self.assertEqual(self.column("waste-table", 1), [bytes_text(kind["wasted_bytes"]) for kind in kinds if kind["count"]])

    def test_nothing_else_would_run(self):
        """The page's policy forbids a script, a style, an image and a request that are not its own."""
        self.browser.evaluate("""(() => {
            const script = document.createElement('script'); script.textContent = 'window.intruded = 1'; document.body.append(script);
            const style = document.createElement('style'); style.textContent = 'body { display: none }'; document.body.append(style);
            const image = document.createElement('img'); image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw='; document.body.append(image);
            })()""")
        self.assertIsNone(self.browser.evaluate("window.intruded"))
        self.assertNotEqual(self.browser.evaluate("getComputedStyle(document.body).display"), "none")
        self.assertEqual(self.browser.evaluate("fetch('https://localhost/').then(() => 1, () => 0) && 2"), 2)
        self.browser.events = [e for e in self.browser.events if e["method"] != "Log.entryAdded" and "localhost" not in json.dumps(e)]
        self.browser.evaluate("1")
        self.browser.events = [e for e in self.browser.events if e["method"] not in ("Log.entryAdded", "Runtime.exceptionThrown")
                               and "data:" not in json.dumps(e) and "localhost" not in json.dumps(e)]

    def test_prints_and_goes_dark(self):
        for features in ([], [{"name": "prefers-color-scheme", "value": "dark"}]):
            self.browser.call("Emulation.setEmulatedMedia", features=features)
            back, text = self.browser.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
            light = [sum(map(int, re.findall(r"\d+", color)[:3])) / 765 for color in (back, text)]
            self.assertGreater(abs(light[0] - light[1]), 0.6, (back, text))
            self.assertEqual(light[0] < light[1], bool(features))
        self.browser.call("Emulation.setEmulatedMedia", features=[])
        self.assertGreater(len(self.browser.call("Page.printToPDF", printBackground=True)["data"]), 10000)

    def test_nothing_sticks_out(self):
        for width in (1280, 800, 420):
            self.browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            self.assertLessEqual(self.browser.evaluate("document.documentElement.scrollWidth"), width)
        self.browser.call("Emulation.setDeviceMetricsOverride", width=1280, height=1000, deviceScaleFactor=1, mobile=False)


class Hostile(Page, unittest.TestCase):
    """Of a process whose names are made to break a page."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        python = next((i for i in harness.interpreters() if i.version >= (3, 8)), None)
        if python is None:
            raise unittest.SkipTest("no interpreter")
        argv = [python.path, "-B", "-S", os.path.join(harness.PROGRAMS, "incident.py"), cls.directory]
        env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "SERVICE_PASSWORD": PASSWORD}
        target = harness.Target(argv, cls.directory, env=env)
        cls.addClassCleanup(target.stop)
        target.wait_ready()
        cls.make("--pid", str(target.pid))

    def test_names_are_text(self):
        names = self.texts("#type-table tbody td:nth-child(1)")
        self.browser.click("#type-table + div button, #types button.more")
        names = self.column("type-table", 1)
        for name in ("__main__.<script>alert(1)</script>", "__main__.</script><!--", "__main__.\"'&amp;", "__main__.\\u202egnp.exe",
                     "__main__.a\\u000ab"):
            self.assertIn(name, names)
        self.assertEqual(self.browser.evaluate("document.querySelectorAll('script').length"), 2)
        self.assertEqual(self.browser.evaluate("document.querySelectorAll('bold, b > b, main script').length"), 0)

    def test_threads_and_tables(self):
        threads = self.texts("#threads summary")
        self.assertEqual(len(threads), 2)
        self.assertTrue(any("worker <b>bold</b>"[:15] in thread for thread in threads), threads)

    def test_nothing_is_given_away(self):
        with open(self.path, encoding="utf-8") as file:
            self.assertNotIn(PASSWORD, file.read())
        self.assertNotIn(PASSWORD, self.browser.evaluate("document.documentElement.textContent"))


class Crowded(Page, unittest.TestCase):
    """Of a process with more threads and frames than a page can show."""

    THREADS, DEPTH = 230, 80
    PROGRAM = """
import os, threading
ready, stop = threading.Semaphore(0), threading.Event()
def descend(depth, before):
    kept = [depth] * 300
    if depth:
        return descend(depth - 1, kept)
    ready.release()
    stop.wait()
threading.stack_size(1 << 20)
for i in range(%d):
    threading.Thread(target=descend, args=(%d, None), daemon=True).start()
for i in range(%d):
    ready.acquire()
os.write(1, b"R")
stop.wait()
""" % (THREADS, DEPTH, THREADS)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        python = next((i for i in harness.interpreters() if i.version >= (3, 8)), None)
        if python is None:
            raise unittest.SkipTest("no interpreter")
        target = cls.start([python.path, "-S", "-c", cls.PROGRAM]).wait_ready()
        cls.make("--pid", str(target.pid))

    def test_it_stays_small_and_says_what_it_leaves_out(self):
        self.assertLess(os.path.getsize(self.path), MOST_BYTES)
        self.assertEqual(len(self.texts("#threads summary")), 200)
        self.assertIn("%d more threads" % (self.THREADS + 1 - 200), self.texts("#threads > p")[-1])
        self.assertRegex(self.texts("#threads .frames")[1], r"\d+ more frames$")


if __name__ == "__main__":
    harness.main()
