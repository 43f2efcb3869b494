"""Run folders as the package reads them, against a run of the built program."""

import contextlib
import csv
import io
import json
import os
import sys
import unittest
import warnings
from unittest import mock

import depthlens
from support import RunTest, needs_pandas, pandas

try:
    import zstandard
except ImportError:
    zstandard = None

LAYERS = 13


class Info(RunTest):
    def test_run_json_is_there_as_it_stands(self):
        run = depthlens.load(self.analysed)
        self.assertEqual(run.info, json.loads((self.analysed / "run.json").read_text()))
        self.assertEqual(run.lenses, ["logit", "tuned"])
        self.assertEqual(run.layers, list(range(LAYERS)))
        self.assertEqual(run.path, self.analysed)
        self.assertIn("LlamaForCausalLM, lenses logit, tuned", repr(run))

    def test_a_run_stays_the_same_when_the_working_folder_changes(self):
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.analysed.parent)
        run = depthlens.load(self.analysed.name)
        os.chdir(self.folder)
        self.assertIn("lens.quality", run.tables)
        self.assertEqual(len(list(run.records())), run.info["counts"]["records"])
        self.assertTrue(run.path.is_absolute())

    def test_a_working_folder_that_is_gone(self):
        self.addCleanup(os.chdir, os.getcwd())
        (self.folder / "gone").mkdir()
        os.chdir(self.folder / "gone")
        (self.folder / "gone").rmdir()
        self.assert_error(3, "cannot be read, run", depthlens.load, "run")
        self.assertEqual(depthlens.load(self.analysed).path, self.analysed)

    def test_a_path_may_be_a_text(self):
        self.assertEqual(depthlens.load(str(self.analysed)).info["status"], "complete")


class Rows(RunTest):
    def test_rows_are_those_of_the_csv_file(self):
        run = depthlens.load(self.analysed)
        names = sorted(path.stem for path in (self.analysed / "tables").glob("*.csv"))
        self.assertEqual(sorted(run.tables), names)
        for name in names:
            with open(self.analysed / "tables" / f"{name}.csv", newline="") as file:
                expected = list(csv.DictReader(file))
            rows = run.rows(name)
            self.assertEqual(len(rows), len(expected))
            for row, other in zip(rows, expected):
                self.assertEqual(list(row), list(other))
                for column, value in row.items():
                    if isinstance(value, float):
                        self.assertEqual(value, float(other[column]))
                    else:
                        self.assertEqual("" if value is None else str(value), other[column])

    def test_columns_and_units(self):
        tables = depthlens.load(self.analysed).tables
        self.assertEqual(tables.columns("lens.quality")[:3], ["lens", "layer", "positions"])
        self.assertEqual(tables.units("lens.quality")["kl_final"], "nats")
        self.assertIn("lens.quality", tables)
        self.assertNotIn("facts.rank", tables)
        self.assertEqual(len(tables), len(list(tables)))

    def test_a_table_that_is_not_there(self):
        run = depthlens.load(self.analysed)
        error = self.assert_error(2, "no table 'facts.rank'", run.rows, "facts.rank")
        self.assertIn("lens.quality", error.hint)
        self.assertIsInstance(error, KeyError)
        self.assertIn("hint: its tables: ", str(error))


class Records(RunTest):
    def test_records_in_the_order_of_the_input(self):
        run = depthlens.load(self.analysed)
        records = list(run.records())
        self.assertEqual(len(records), run.info["counts"]["positions"])
        places = [(record["document"], record["position"]) for record in records]
        self.assertEqual(places, sorted(places))
        self.assertEqual(len(records[0]["lenses"]["tuned"]["entropy"]), LAYERS)
        self.assertEqual(list(run.records()), records)

    def test_a_run_without_records(self):
        out = self.folder / "run"
        run = depthlens.run("analyze", input=self.text, out=out, records="none", quiet=True, report="no")
        self.assert_error(3, "--records none", run.records)

    def test_records_that_were_cut_or_are_no_json(self):
        place = self.copy_of_run()
        file = place / "records.jsonl"
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:-1]))
        self.assert_error(4, f"{len(lines) - 1} records, and run.json counts {len(lines)}", self.records_of, place)
        file.write_bytes(b"".join(lines)[:-20])
        self.assert_error(4, f"line {len(lines)}", self.records_of, place)
        file.write_bytes(lines[0] + b"\xff\n")
        self.assert_error(4, "records.jsonl is damaged", self.records_of, place)
        file.write_bytes(b"[]\n")
        self.assert_error(4, "line 1; expected an object, found a list that is empty", self.records_of, place)

    def records_of(self, place):
        return depthlens.load(place).records()

    @unittest.skipIf(zstandard is None, "the package zstandard is not installed")
    def test_records_compressed_by_zstd(self):
        place = self.copy_of_run()
        expected = list(self.records_of(place))
        plain = (place / "records.jsonl").read_bytes()
        (place / "records.jsonl").unlink()
        file = place / "records.jsonl.zst"
        half = len(plain) // 2
        compressed = zstandard.compress(plain[:half]) + zstandard.compress(plain[half:])  # two frames
        file.write_bytes(compressed)
        self.assertEqual(list(self.records_of(place)), expected)
        for cut in (1, 2, 4, 5, 30):
            with self.subTest(cut=cut):
                file.write_bytes(compressed[:-cut])
                self.assert_error(4, "is damaged", self.records_of, place)
        wrong = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(plain))
        wrong[-1] ^= 1
        file.write_bytes(wrong)
        self.assert_error(4, "checksum", self.records_of, place)
        file.write_bytes(plain)
        self.assert_error(4, "is damaged", self.records_of, place)

    @needs_pandas
    def test_records_with_a_value_of_another_kind(self):
        place = self.copy_of_run()
        file = place / "records.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        for key, value, expected in (
            ("final_rank", [1.5] * LAYERS, "an integer from 1"),
            ("target_rank", [0] * LAYERS, "an integer from 1"),
            ("top_ids", [["7"]] * LAYERS, "an integer from 0"),
            ("top_tokens", [[7]] * LAYERS, "a text"),
            ("top_logprobs", [[None]] * LAYERS, "a number"),
            ("settled_layer", LAYERS, "one of the layers"),
        ):
            record = json.loads(lines[3])
            record["lenses"]["logit"][key] = value
            file.write_text("".join([*lines[:3], json.dumps(record) + "\n", *lines[4:]]), encoding="utf-8")
            with self.subTest(key):
                error = self.assert_error(4, "records.jsonl line 4: lenses.logit." + key, self.frame_of, place, key)
                self.assertIn(expected, error.message)

    def frame_of(self, place, field):
        return depthlens.load(place).frame(fields=[field])

    def test_zstd_without_a_package_for_it(self):
        place = self.copy_of_run()
        (place / "records.jsonl").rename(place / "records.jsonl.zst")
        with mock.patch.dict(sys.modules, {"zstandard": None, "compression": None, "compression.zstd": None}):
            error = self.assert_error(2, "compressed by zstd", self.records_of, place)
        self.assertEqual(error.hint, "pip install zstandard")


class Refused(RunTest):
    def test_folders_that_are_no_runs(self):
        self.assert_error(2, "no folder is named", depthlens.load, "")
        self.assert_error(3, "no such folder", depthlens.load, self.folder / "none")
        self.assert_error(3, "a run is a folder", depthlens.load, self.text)
        self.assert_error(3, "it has no run.json", depthlens.load, self.folder)
        self.copy_of_run()
        self.assertIn("copy", self.assert_error(3, "it has no run.json", depthlens.load, self.folder).hint)
        (self.folder / "begun" / "parts").mkdir(parents=True)
        error = self.assert_error(3, "not finished", depthlens.load, self.folder / "begun")
        self.assertIn("--resume", error.hint)

    def test_what_is_no_path_or_cannot_be_looked_up(self):
        for value in (b"run", 5, None):
            with self.subTest(value=value):
                self.assert_error(2, f"expected a text or a path, found {value!r}", depthlens.load, value)
        self.assert_error(3, "x", depthlens.load, "x" * 5000)
        with mock.patch("pathlib.Path.is_dir", side_effect=PermissionError(13, "Permission denied")):
            self.assert_error(3, "Permission denied", depthlens.load, self.analysed)

    def test_a_folder_that_another_run_has_come_into(self):
        place = self.change(status="complete")
        run = depthlens.load(place)
        rows = run.rows("lens.quality")
        records = run.records()
        next(records)
        other = depthlens.load(place)
        self.change(status="complete", warnings=["another run"])
        self.assertEqual(run.rows("lens.quality"), rows)
        self.assertEqual(len(list(records)), run.info["counts"]["records"] - 1)
        for action in (run.records, lambda: other.tables):
            self.assertIn("load it again", self.assert_error(4, "its run.json has changed", action).hint)
        (place / "run.json").unlink()
        self.assert_error(4, "its run.json has changed", run.records)

    def test_a_partial_run_unless_it_is_asked_for(self):
        place = self.change(status="partial")
        self.assertIn("--resume", self.assert_error(4, "partial", depthlens.load, place).hint)
        self.assertEqual(depthlens.load(place, partial=True).info["status"], "partial")

    def test_a_share_is_told_of(self):
        place = self.change(shard={"index": 1, "count": 3})
        with self.assertWarnsRegex(UserWarning, "share 1 of 3"):
            depthlens.load(place)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            depthlens.load(self.analysed)

    def test_a_newer_schema(self):
        error = self.assert_error(4, "schema_version 2", depthlens.load, self.change(schema_version=2))
        self.assertIn("wheel", error.hint)
        self.assert_error(4, "no usable 'schema_version'", depthlens.load, self.change(schema_version=None))
        place = self.change(schema_version=1)
        summary = json.loads((place / "summary.json").read_text())
        summary["schema_version"] = 3
        (place / "summary.json").write_text(json.dumps(summary))
        self.assert_error(4, "schema_version 3", depthlens.load(place).rows, "lens.quality")

    def test_damaged_files(self):
        place = self.change(counts=None)
        self.assert_error(4, "counts; expected an object, found null", depthlens.load, place)
        (place / "run.json").write_text('{"schema_version"')
        self.assert_error(4, "run.json is damaged", depthlens.load, place)
        (place / "run.json").write_text("[]")
        self.assert_error(4, "expected an object", depthlens.load, place)
        (place / "run.json").write_text("[" * 200000)
        self.assert_error(4, "recursion", depthlens.load, place)
        place = self.change(schema_version=1)
        table = {"columns": ["a", "b"], "rows": [[1]]}
        (place / "summary.json").write_text(json.dumps({"schema_version": 1, "tables": {"x": table}}))
        self.assert_error(4, "tables.x.rows[0]; expected 2 values", depthlens.load(place).rows, "x")
        (place / "summary.json").unlink()
        self.assert_error(3, "no summary.json", depthlens.load(place).rows, "x")

    @needs_pandas
    def test_no_value_of_another_kind_ends_in_another_exception(self):
        """Each value of the three files that the reader takes, replaced by others."""
        place = self.copy_of_run()
        kept = ("schema_version", "status", "shard", "model", "lenses", "settings", "counts")
        run = json.loads((place / "run.json").read_text())
        run["shard"] = {"index": 0, "count": 1}
        run["counts"]["records"] = 2
        summary = json.loads((place / "summary.json").read_text())
        lines = (place / "records.jsonl").read_text().splitlines(keepends=True)[:2]
        for key in ("layers", "record_fields"):
            run["settings"][key] = {"layers": list(range(LAYERS)), "record_fields": list(depthlens.NUMBERS)}[key]
        files = {
            "run.json": {key: run[key] for key in kept},
            "summary.json": {"schema_version": 1, "tables": {"lens.quality": summary["tables"]["lens.quality"]}},
            "records.jsonl": json.loads(lines[1]),
        }
        for name, value in files.items():
            (place / name).write_text((lines[0] if name == "records.jsonl" else "") + json.dumps(value) + "\n")
        fields = (*depthlens.NUMBERS, "top1_id", "top1_token", "top1_logprob", "top_ids", "token_id", "settled_layer")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.use(place, fields)
            refused = 0
            for name, value in files.items():
                whole = (place / name).read_text()
                for path in self.paths(value):
                    for other in (None, -1, "x", [], {}, [None], 10**30, float("inf"), ...):
                        head = lines[0] if name == "records.jsonl" else ""
                        (place / name).write_text(head + json.dumps(self.replaced(value, path, other)) + "\n")
                        try:
                            self.use(place, fields)
                        except depthlens.Error as error:
                            refused += 1
                            self.assertIn(str(place), error.message)
                        except Exception as error:
                            self.fail(f"{name} {path} {other!r}: {error!r}")
                (place / name).write_text(whole)
        self.assertGreater(refused, 400)

    def use(self, place, fields):
        run = depthlens.load(place, partial=True)
        repr(run)
        for name in run.tables:
            run.tables[name]
            run.tables.units(name)
        list(run.records())
        run.frame(lens=None, fields=fields)
        run.frame()

    def paths(self, value, path=()):
        """The keys that lead to each value, of lists the first two elements."""
        if path:
            yield path
        if isinstance(value, (dict, list)) and path[-1:] not in (("files",), ("rotary",)):
            for key in value if isinstance(value, dict) else range(min(2, len(value))):
                yield from self.paths(value[key], (*path, key))

    def replaced(self, value, path, other):
        copy = json.loads(json.dumps(value))
        inner = copy
        for key in path[:-1]:
            inner = inner[key]
        if other is ...:
            del inner[path[-1]]
        else:
            inner[path[-1]] = other
        return copy

    def change(self, **values):
        place = self.folder / "copy"
        if not place.exists():
            self.copy_of_run()
        info = json.loads((self.analysed / "run.json").read_text())
        info.update(values)
        (place / "run.json").write_text(json.dumps(info))
        return place


class Frames(RunTest):
    def test_what_needs_pandas_says_so(self):
        run = depthlens.load(self.analysed)
        with mock.patch.dict(sys.modules, {"pandas": None}):
            error = self.assert_error(2, "pandas", run.tables.__getitem__, "lens.quality")
            self.assertEqual(error.hint, "pip install pandas")
            self.assert_error(2, "pandas", run.frame)
            self.assertEqual(len(run.rows("lens.quality")), 2 * LAYERS)

    @needs_pandas
    def test_a_table(self):
        run = depthlens.load(self.analysed)
        frame = run.tables["lens.quality"]
        self.assertEqual(frame.to_dict("records")[0]["lens"], "logit")
        self.assertEqual(list(frame["layer"][:LAYERS]), run.layers)
        self.assertEqual(frame["kl_final"].dtype, "float64")
        self.assertEqual(list(frame["kl_final"]), [row["kl_final"] for row in run.rows("lens.quality")])
        self.assertEqual(frame.attrs["units"]["kl_final"], "nats")
        self.assertEqual(run.tables["flips.by_bucket"]["flip_rate"].dtype, "float64")  # nothing in some buckets

    @needs_pandas
    def test_a_table_without_rows_has_the_types_of_a_full_one(self):
        run = depthlens.run("analyze", input=self.text, out=self.folder / "l", layers=[12], quiet=True, report="no")
        empty, full = run.tables["flips.changes"], depthlens.load(self.analysed).tables["flips.changes"]
        self.assertEqual(len(empty), 0)
        for column in full.columns:
            if full[column].dtype.kind in "if":
                self.assertEqual(empty[column].dtype, full[column].dtype, column)

    @needs_pandas
    def test_ids_of_items_are_those_of_the_records(self):
        ids = [9007199254740993, "a", 1.5, None]
        place = self.copy_of_run()
        file = place / "records.jsonl"
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for items in (ids, [12, None], [12]):
            for index, line in enumerate(lines):
                line["item"] = items[index % len(items)]
            file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            frame = depthlens.load(place).frame()
            expected = [line["item"] for line in lines for _ in range(LAYERS)]
            self.assertEqual([repr(item) for item in frame["item"]], [repr(item) for item in expected])

    @needs_pandas
    def test_ids_of_tokens_are_integers_beside_missing_ones(self):
        out = self.folder / "w"
        run = depthlens.run(
            "analyze", input=self.text, out=out, watch=["#target", 5], lens=["logit"], quiet=True, report=False
        )
        records = list(run.records())
        frame = run.frame(fields=["target_id", "token_id"])
        ids = [record["target"] and record["target"]["id"] for record in records for _ in range(LAYERS)]
        self.assertIn(None, ids)
        self.assertEqual(list(map(repr, frame["target_id"])), list(map(repr, ids)))
        self.assertEqual(frame["token_id"].dtype, "int64")
        table = run.tables["watch.rank"]
        ids = [row["token_id"] for row in run.rows("watch.rank")]
        self.assertEqual(set(ids), {None, 5})
        self.assertEqual(list(map(repr, table["token_id"])), list(map(repr, ids)))
        run = depthlens.run("analyze", input=self.text, out=out, watch=5, quiet=True, report=False, overwrite=True)
        self.assertEqual(run.tables["watch.rank"]["token_id"].dtype, "int64")

    @needs_pandas
    def test_what_the_page_says_of_reading_by_pandas(self):
        place = self.copy_of_run()
        file = place / "records.jsonl"
        ids = ["0.20", "1e5", "nan", "2020-01-01"]
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for index, line in enumerate(lines):
            line["item"] = ids[index % len(ids)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        read = pandas.read_json(file, lines=True, dtype=False)
        self.assertEqual(list(read["item"]), [line["item"] for line in lines])
        csv_file = self.folder / "table.csv"
        csv_file.write_text("lens,token,mean_rank,token_id\nnan,NA,,262\nnull,007,1.5,\n")
        read = pandas.read_csv(csv_file, keep_default_na=False, na_values="", dtype={"token": str})
        self.assertEqual(list(read["lens"]), ["nan", "null"])
        self.assertEqual(list(read["token"]), ["NA", "007"])
        self.assertEqual(list(read["mean_rank"].isna()), [True, False])

    @needs_pandas
    def test_one_row_a_position_and_layer(self):
        run = depthlens.load(self.analysed)
        records = list(run.records())
        frame = run.frame(lens="tuned", fields=("final_rank", "entropy", "top1_token", "target_id"))
        self.assertEqual(len(frame), len(records) * LAYERS)
        self.assertEqual(
            list(frame.columns),
            "lens document window position item token target final layer final_rank entropy top1_token target_id".split(),
        )
        self.assertEqual(set(frame["lens"]), {"tuned"})
        for index in (0, 5, len(records) - 1):
            record = records[index]
            rows = frame[index * LAYERS : (index + 1) * LAYERS]
            values = record["lenses"]["tuned"]
            self.assertEqual(list(rows["layer"]), run.layers)
            self.assertEqual(list(rows["final_rank"]), values["final_rank"])
            self.assertEqual(list(rows["entropy"]), values["entropy"])
            self.assertEqual(list(rows["top1_token"]), [top[0] for top in values["top_tokens"]])
            self.assertEqual(set(rows["position"]), {record["position"]})
            self.assertEqual(set(rows["token"]), {record["token"]["text"]})
            if record["target"] is None:
                self.assertTrue(rows["target_id"].isna().all() and rows["target"].isna().all())
            else:
                self.assertEqual(set(rows["target_id"]), {record["target"]["id"]})

    @needs_pandas
    def test_means_of_a_frame_are_those_of_the_table(self):
        run = depthlens.load(self.analysed)
        means = run.frame(lens=None).groupby(["lens", "layer"])[["kl_final", "entropy"]].mean()
        for row in run.rows("lens.quality"):
            self.assertAlmostEqual(means.loc[(row["lens"], row["layer"]), "entropy"], row["entropy"], places=5)
            self.assertAlmostEqual(means.loc[(row["lens"], row["layer"]), "kl_final"], row["kl_final"], places=5)

    @needs_pandas
    def test_layers_are_those_of_the_settings(self):
        out = self.folder / "some"
        run = depthlens.run("analyze", input=self.text, out=out, layers=[0, 4], quiet=True, report="no")
        self.assertEqual(run.layers, [0, 4, 12])
        frame = run.frame(fields="entropy")
        self.assertEqual(list(frame["layer"][:3]), [0, 4, 12])
        whole = depthlens.load(self.analysed).frame(fields="entropy")
        same = whole[whole["layer"].isin(run.layers)]
        self.assertEqual(list(frame["entropy"]), list(same["entropy"]))

    @needs_pandas
    def test_records_of_tasks(self):
        task = self.folder / "facts.jsonl"
        task.write_text('{"id": "a", "prompt": "The capital of France is", "answer": "Paris"}\n')
        out = self.folder / "facts"
        run = depthlens.run(
            "analyze", input=task, experiment="facts", keep="all", out=out, quiet=True, report="no"
        )
        frame = run.frame(fields=["target_rank", "top_ids"])
        self.assertEqual(list(frame["item"]), ["a"] * LAYERS)
        self.assertEqual(list(frame["answer_length"]), [1] * LAYERS)
        self.assertEqual(list(frame["target_rank"]), next(run.records())["lenses"]["logit"]["target_rank"])
        self.assertEqual(len(frame["top_ids"][0]), 10)

    @needs_pandas
    def test_an_empty_run_has_the_columns_and_types_of_a_full_one(self):
        place = self.copy_of_run()
        fields = (*depthlens.NUMBERS, "settled_layer", "top1_id", "top1_token", "top1_logprob", "token_id", "target_id")
        full = depthlens.load(place).frame(fields=fields)
        (place / "records.jsonl").write_bytes(b"")
        info = json.loads((place / "run.json").read_text())
        info["counts"]["records"] = 0
        (place / "run.json").write_text(json.dumps(info))
        empty = depthlens.load(place).frame(fields=fields)
        self.assertEqual(len(empty), 0)
        self.assertEqual(list(empty.columns), list(full.columns))
        for name in empty.columns:
            numeric = full[name].dtype.kind in "if"
            self.assertEqual(empty[name].dtype if numeric else empty[name].dtype.kind in "OU", full[name].dtype if numeric else True, name)

    @needs_pandas
    def test_a_task_of_which_nothing_counts_has_the_columns_of_its_kind(self):
        facts = '{"id": "a", "prompt": "The capital of France is", "answer": "Vienna"}\n'
        choices = '{"prompt": "The capital of France is", "options": ["Rome", "Vienna"], "answer": "Rome"}\n'
        pos = "1\tThe\tthe\tDET\t_\t_\t0\troot\t_\t_\n2\tzebra\tzebra\tNOUN\t_\t_\t1\tdep\t_\t_\n\n"
        for kind, name, text, columns in (
            ("facts", "facts.jsonl", facts, ["answer_position", "answer_length"]),
            ("exit", "facts.jsonl", facts, ["answer_position", "answer_length"]),
            ("choices", "choices.jsonl", choices, []),
            ("pos", "words.conllu", pos, ["class"]),
        ):
            with self.subTest(kind), contextlib.redirect_stderr(io.StringIO()):
                (self.folder / name).write_text(text)
                flags = dict(min_prompt_chars=1) if kind == "pos" else {}
                runs = [
                    depthlens.run(
                        "analyze", input=self.folder / name, experiment=kind, out=self.folder / f"{kind}-{keep}",
                        keep=keep, quiet=True, report=False, **flags,
                    )
                    for keep in ("correct", "all")
                ]  # fmt: skip
                self.assertEqual([run.info["counts"]["records"] == 0 for run in runs], [True, False])
                empty, full = [run.frame(fields=["entropy", "top1_id", "target_id"]) for run in runs]
                self.assertEqual(list(empty.columns), list(full.columns))
                self.assertEqual(list(empty.columns)[5 : 5 + len(columns)], columns)
                for column in full.columns:
                    if full[column].dtype.kind in "if" and column != "target_id":
                        self.assertEqual(empty[column].dtype, full[column].dtype, column)
                error = self.assert_error(2, "no field 'rank'", runs[0].frame, fields=["rank"])
                self.assertIn("final_rank", error.hint)
                self.assert_error(2, "no field 'watched'", runs[0].frame, fields=["watched"])

    @needs_pandas
    def test_a_run_without_lenses_has_no_frame(self):
        pairs = depthlens.demo_folder() / "tasks" / "pairs.jsonl"
        out = self.folder / "out"
        run = depthlens.run(
            "analyze", input=pairs, experiment="patching", out=out, limit=1, quiet=True, report=False
        )
        for lens in ("logit", None):
            self.assert_error(2, "the run has no lenses", run.frame, lens=lens)

    @needs_pandas
    def test_of_fewer_fields_the_numbers_that_are_there(self):
        def run(fields):
            out = self.folder / fields
            return depthlens.run(
                "analyze", input=self.text, out=out, record_fields=fields, quiet=True, report="no", watch=" the"
            )

        frame = run("entropy,top_ids,final_rank").frame()
        self.assertEqual(list(frame.columns[-2:]), ["final_rank", "entropy"])
        self.assertIn("top_ids", self.assert_error(2, "none of the numbers", run("top_ids").frame).hint)

    @needs_pandas
    def test_watched_tokens_are_no_field_of_a_frame(self):
        """Also where there are as many as layers."""
        tokens = [f"#{index}" for index in range(3, 6)]
        run = depthlens.run(
            "analyze", input=self.text, out=self.folder / "w", layers=[0, 4], watch=tokens, quiet=True, report="no"
        )
        self.assertEqual(len(run.layers), len(next(run.records())["lenses"]["logit"]["watched"]))
        error = self.assert_error(2, "'watched' is a list of tokens", run.frame, fields=("watched",))
        self.assertIn("records()", error.hint)

    @needs_pandas
    def test_what_a_frame_cannot_have(self):
        run = depthlens.load(self.analysed)
        self.assertIn("logit, tuned", self.assert_error(2, "no lens 'jacobian'", run.frame, lens="jacobian").hint)
        error = self.assert_error(2, "no field 'rank'", run.frame, fields=["rank"])
        self.assertIn("final_rank", error.hint)
        self.assertNotIn("settled_layers", error.hint)
        self.assertEqual(set(run.frame(fields=["settled_layer"])["settled_layer"].between(0, 12)), {True})


if __name__ == "__main__":
    unittest.main()
