from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from retrieval.engine.recent import Recent


def test_the_value_least_recently_asked_for_goes_first() -> None:
    recent = Recent[str, int](2)
    recent.put("lamp", 1)
    recent.put("desk", 2)
    assert recent.get("lamp") == 1
    recent.put("chair", 3)
    assert [recent.get(key) for key in ("lamp", "desk", "chair")] == [1, None, 3]


def test_a_value_put_again_is_new() -> None:
    recent = Recent[str, int](2)
    for key, value in (("lamp", 1), ("desk", 2), ("lamp", 3), ("chair", 4)):
        recent.put(key, value)
    assert [recent.get(key) for key in ("lamp", "desk", "chair")] == [3, None, 4]


def test_threads_share_it_without_loss() -> None:
    recent = Recent[int, int](50)

    def use(start: int) -> None:
        for key in range(start, start + 500):
            recent.put(key % 50, key % 50)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))
    assert [recent.get(key) for key in range(50)] == list(range(50))
