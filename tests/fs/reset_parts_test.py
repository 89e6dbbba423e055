#!/usr/bin/env python3
"""What reset_guest.py rests on, without a machine: the model of files, its judgement, the disks.

Given operations that clients did and were told of, when a tree shows all, too few, a gap or another
order of them, then judge says so; given writes and flushes, then power_off leaves what it may."""

import os
import random
import tempfile
import unittest

import file_model
import volatile_disks

A = [("mkdir", "a"), ("create", "a/f"), ("write", "a/f", 0, 5000, 7), ("fsync", "a/f"),
     ("write", "a/f", 5000, 6000, 8), ("create", "a/g")]
B = [("mkdir", "b"), ("create", "b/h"), ("unlink", "b/h")]


def shown(*parts):
    """What is seen after these operations."""
    tree = file_model.Tree()
    for operation in (one for part in parts for one in part):
        tree.apply(operation)
    return tree.seen()


def told(*lines):
    promises = file_model.Promises({"a": A, "b": B})
    for line in lines:
        assert promises.line(line) is None
    return promises


def all_of(name, count):
    return [line for n in range(count) for line in (f"b {name} {n}", f"e {name} {n} 0")]


def judge(promises, seen):
    bases = {"a": file_model.Tree(), "b": file_model.Tree()}
    return file_model.judge(bases, promises, seen)


class Judgement(unittest.TestCase):
    """Of trees, after a loss of power."""

    def test_every_number_of_operations_from_the_promised_on_is_right(self):
        promises = told(*all_of("a", 6))
        for count in (4, 5, 6):
            wrong, trees, numbers = judge(promises, shown(A[:count]))
            self.assertIsNone(wrong)
            self.assertEqual(numbers["a"], count)
            self.assertEqual(trees["a"].seen(), shown(A[:count]))

    def test_less_than_was_promised_is_wrong(self):
        self.assertIn("shows 2 of them", judge(told(*all_of("a", 4)), shown(A[:2]))[0])

    def test_more_than_was_begun_is_wrong(self):
        self.assertIsNotNone(judge(told(*all_of("a", 4)), shown(A[:5]))[0])

    def test_a_gap_is_wrong(self):
        self.assertIsNotNone(judge(told(*all_of("a", 6)), shown(A[:4], A[5:]))[0])

    def test_a_changed_byte_is_wrong(self):
        seen = shown(A[:4])
        data, names = seen["a/f"]
        seen["a/f"] = (data[:100] + b"?" + data[101:], names)
        self.assertIn("from byte 100 on", judge(told(*all_of("a", 4)), seen)[0])

    def test_a_write_may_end_at_its_first_page(self):
        tree = file_model.tree_of(shown(A[:4]))
        tree.apply(file_model.steps(A[4])[0])
        self.assertEqual(len(tree.names["a/f"][0]), 8192)
        self.assertIsNone(judge(told(*all_of("a", 5)), tree.seen())[0])
        tree.names["a/f"][0][8100:] = b""
        self.assertIsNotNone(judge(told(*all_of("a", 5)), tree.seen())[0])

    def test_an_fsync_of_one_client_covers_what_others_had_ended(self):
        promises = told(*all_of("b", 2), *all_of("a", 4))
        self.assertIn("b was promised 2", judge(promises, shown(A[:4], B[:1]))[0])

    def test_what_began_after_something_ended_does_not_survive_it(self):
        promises = told(*all_of("b", 3), *all_of("a", 2))
        self.assertIsNone(judge(promises, shown(A[:2], B))[0])
        self.assertIn("which began after 3 of b", judge(promises, shown(A[:2], B[:2]))[0])

    def test_operations_that_fail_and_strangers_are_wrong(self):
        self.assertIn("error 28", file_model.Promises({"a": A}).line("e a 0 28"))
        self.assertIn("nobody", judge(told(), shown([("mkdir", "lost")]))[0])

    def test_names_of_one_file_are_told_from_copies(self):
        linked = [("mkdir", "a"), ("create", "a/f"), ("link", "a/f", "a/l")]
        copied = [("mkdir", "a"), ("create", "a/f"), ("create", "a/l")]
        self.assertNotEqual(shown(linked), shown(copied))
        self.assertEqual(file_model.tree_of(shown(linked)).seen(), shown(linked))


class Disks(unittest.TestCase):
    """With a cache that is lost."""

    def setUp(self):
        file = tempfile.NamedTemporaryFile()
        self.addCleanup(file.close)
        file.truncate(1 << 20)
        self.path = file.name

    def left(self, fate, seed=1, lies=False):
        """What is on the medium of a write of 1s that is flushed and one of 2s that is not."""
        disk = volatile_disks.Disk(self.path)
        disk.lies = lies
        disk.write(0, b"1" * 8192)
        disk.flush()
        disk.write(4096, b"2" * 8192)
        self.assertEqual(disk.seen[:12288], b"1" * 4096 + b"2" * 8192)
        disk.power_off(fate, random.Random(seed))
        with open(self.path, "rb") as file:
            return file.read(12288)

    def test_what_was_flushed_stays_and_the_rest_may_go(self):
        self.assertEqual(self.left("nothing"), b"1" * 8192 + bytes(4096))
        self.assertEqual(self.left("everything"), b"1" * 4096 + b"2" * 8192)

    def test_writes_are_torn_at_sectors(self):
        seen = set()
        for seed in range(60):
            data = self.left("half", seed)
            self.assertEqual(data[:4096], b"1" * 4096)
            pieces = [data[at:at + 512] for at in range(0, len(data), 512)]
            self.assertTrue(all(len(set(piece)) == 1 for piece in pieces))
            seen.add(sum(piece[0] == ord("2") for piece in pieces[8:]))
            os.truncate(self.path, 0)
            os.truncate(self.path, 1 << 20)
        self.assertTrue({0, 16} < seen and len(seen) > 4, seen)

    def test_a_disk_that_lies_loses_what_was_flushed(self):
        self.assertEqual(self.left("nothing", lies=True), bytes(12288))

    def test_a_flush_goes_before_writes_that_wait_beside_it(self):
        order = []

        class Line:
            """A socket with a write and a flush in it."""
            greeting = (b"\0\0\0\1" + volatile_disks.OPTION_MAGIC
                        + (7).to_bytes(4, "big") + bytes(4))
            requests = (volatile_disks.REQUEST.pack(volatile_disks.REQUEST_MAGIC, 0, 1, 11, 0, 512)
                        + b"3" * 512
                        + volatile_disks.REQUEST.pack(volatile_disks.REQUEST_MAGIC, 0, 3, 12, 0, 0))

            def recv(self, count):
                if self.greeting:
                    piece, self.greeting = self.greeting[:count], self.greeting[count:]
                    return piece
                return self.requests

            def sendall(self, data):
                pass

            def settimeout(self, seconds):
                pass

        disk = volatile_disks.Disk(self.path)
        connection = volatile_disks.Connection(0, disk, Line(), lambda _, what: order.append(what))
        connection.serve()
        self.assertEqual(order, ["flush asked", "flush done", "flush told", "write"])
        disk.power_off("nothing", random.Random(1))
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(512), bytes(512))


if __name__ == "__main__":
    unittest.main()
