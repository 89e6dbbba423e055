"""Goal: addresses follow from the code alone, and no two images of a build overlap.

Method: the hash against the vectors that libnemesis/base/hash_test.cpp has; slots against small
registers made up here.
"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import place_image as place  # noqa: E402  (the folder is not a package)


class Hash(unittest.TestCase):
    def test_agrees_with_xxh64(self):
        self.assertEqual(place.xxh64(b""), 0xEF46DB3751D8E999)
        self.assertEqual(place.xxh64(b"a"), 0xD24EC4F1A98C6E5B)
        self.assertEqual(place.xxh64(b"abc"), 0x44BC2CF5AD770999)
        self.assertEqual(place.xxh64(b"Nobody inspects the spammish repetition"),
                         0xFBCEA83C8A378BF1)


class Slots(unittest.TestCase):
    def test_a_free_slot_is_taken(self):
        self.assertEqual(place.choose_slot(7, 1, [(6, 1), (8, 1)]), 7)

    def test_a_taken_slot_is_passed_over(self):
        self.assertEqual(place.choose_slot(7, 1, [(7, 1), (8, 2)]), 10)

    def test_a_large_image_needs_all_its_slots_free(self):
        self.assertEqual(place.choose_slot(7, 3, [(9, 1)]), 10)

    def test_probing_wraps_at_the_end_of_the_region(self):
        last = place.SLOTS - 1
        self.assertEqual(place.choose_slot(last, 1, [(last, 1)]), 0)
        self.assertEqual(place.choose_slot(last, 2, [(0, 1)]), 1)

    def test_colliding_images_settle_in_order_of_their_names(self):
        register = {name: {"slot": slot, "slots": 1, "shared": False, "hash": "0x7"}
                    for name, slot in (("c", 7), ("a", 8), ("b", 9))}
        self.assertEqual(place.settled_slots(register), {"a": 7, "b": 8, "c": 9})

    def test_an_absurd_image_is_refused(self):
        with self.assertRaises(place.BadImage):
            place.choose_slot(0, 17, [])

    def test_sizes_are_rounded_up(self):
        self.assertEqual([place.slots_of(n) for n in (1, 16 << 20, (16 << 20) + 1)], [1, 1, 2])

    def test_the_shared_segment_takes_no_slot_of_programs(self):
        register = {"lib": {"file": __file__, "slot": 1000, "slots": 1, "shared": True,
                            "uses_shared": False},
                    "other": {"file": __file__, "slot": 7, "slots": 2, "shared": False,
                              "uses_shared": True}}
        self.assertEqual(place.taken_by_others(register, "program"), [(7, 2)])


if __name__ == "__main__":
    unittest.main()
