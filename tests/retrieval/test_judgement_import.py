"""Ratings from files into judgement sets and out again."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from retrieval.evaluation.judgements import JudgementsError
from retrieval.evaluation.rating_files import read_rating_file, read_rating_pair, to_grades
from retrieval.judgement_files import import_ratings, read_ratings, write_ratings
from retrieval.models import Judgement, JudgementSet
from tests.factories import make_product

QUERIES = "query_id\tquery\nq1\tred mug\nq2\tlamp\n"


@pytest.fixture
def write(tmp_path):
    def write_file(content: str | bytes, name: str = "ratings.tsv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def to_tuples(ratings):
    return [(rating.query, rating.sku, rating.grade) for rating in ratings]


@pytest.mark.parametrize(
    ("relevances", "expected"),
    [
        ([0, 1, 2, 3], {0: 0, 1: 1, 2: 2, 3: 3}),
        ([0, 1], {0: 0, 1: 3}),
        ([0, 1, 2], {0: 0, 1: 1.5, 2: 3}),
        ([1, 3, 4], {1: 1, 3: 3, 4: 3}),
        ([0, 50, 100], {0: 0, 50: 1.5, 100: 3}),
        ([0], {0: 0}),
        ([], {}),
    ],
)
def test_the_highest_relevance_is_exact_or_three_where_given(relevances, expected):
    assert to_grades(relevances) == expected


@pytest.mark.parametrize(
    "content",
    [
        "query\tsku\tgrade\nred mug\tA\t3\n\nlamp\tB\t0.5\n",
        "\ufeffGrade\tProduct\tquery\r\n3\tA\tred  mug\r\n0.5\tB\tlamp\r\n",
        'query,doc_id,grade,note\n"red mug",A,3,x\nlamp,B,.5,\n',
        "query;sku;grade\nred mug;A;3\nlamp;B;0.5\n",
        '{"query": "red mug", "sku": "A", "grade": 3}\n{"query": "lamp", "product": "B", "grade": "0.5"}\n',
        "query\tsku\tgrade\nred mug\tA\t3\nred mug\tA\t3\nlamp\tB\t0.5",
    ],
)
def test_one_file_is_read_whatever_its_form(write, content):
    assert to_tuples(read_rating_file(write(content))) == [("red mug", "A", 3), ("lamp", "B", 0.5)]


def test_numbers_that_are_skus_and_marks_that_are_inches_are_kept(write):
    path = write('{"query": "27\\" monitor", "sku": 1001, "relevance": 1}\n', "ratings.jsonl")
    assert to_tuples(read_rating_file(path)) == [('27" monitor', "1001", 3)]
    assert to_tuples(read_rating_file(write('query\tsku\tgrade\n27" monitor\tA\t1\n')))[0][0] == '27" monitor'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"ratings\.tsv has no ratings; expected the columns query, sku"),
        ("query\tsku\tgrade\n", "has no ratings"),
        ("query\tsku\nmug\tA\n", r"line 2: no grade or relevance among 'query, sku'"),
        ("query\tsku\tgrade\nmug\tA\tgood\n", r"line 2, grade 'good': expected a number from 0 \(wrong\) to 3"),
        ("query\tsku\tgrade\nmug\tA\t4\n", r"line 2, grade '4': .*name the column relevance if its scale is another"),
        ("query\tsku\trelevance\nmug\tA\t101\n", r"relevance '101': expected a number from 0 \(wrong\) to 100"),
        ("query\tsku\tgrade\nmug\tA\tnan\n", r"grade 'nan': expected a number"),
        ("query\tsku\tgrade\nmug\tA\n", r"line 2, grade '': expected a number"),
        ("query\tsku\tgrade\nmug\tA\t3\nmug\tA\t1\n", r"line 3: 1 for query 'mug' and product 'A', .* line 2; keep"),
        ("query\tsku\tgrade\n \tA\t3\n", r"line 2, query '': expected text of 1 to 300 characters"),
        (f"query\tsku\tgrade\nmug\t{'A' * 101}\t3\n", r"line 2, sku 'A+': expected text of 1 to 100"),
        ("query\tsku\tgrade\nmug\x00\tA\t3\n", r"query 'mug\\x00': expected text"),
        ('{"query": "mug", "sku": "A", "grade": true}', r"line 1, grade True: expected a number"),
        ('{"query": ["mug"], "sku": "A", "grade": 1}', r"line 1, query \['mug'\]: expected text"),
        ('{"query": "mug"', r"line 1, '\{\"query\": \"mug\"': is no JSON"),
        ('{"a": 1}\n[1]', r"line 1: no query among 'a'"),
        ('query,sku,grade\n"mug,A,3\nlamp,B,1\n', "check its quotation marks"),
        ("query\tsku\tgrade\ncafé\tA\t3\n".encode("latin-1"), r"line 2: byte 0xe9 is not UTF-8"),
    ],
)  # fmt: skip
def test_bad_lines_are_named_with_place_value_and_cure(write, content, message):
    with pytest.raises(JudgementsError, match=message):
        read_rating_file(write(content))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(JudgementsError, match=r"none\.tsv: cannot be read: No such file"):
        read_rating_file(tmp_path / "none.tsv")


def test_a_pair_of_files_is_read_and_brought_to_scale(write):
    qrels = write("query_id\tdoc_id\trelevance\nq1\tA\t2\nq1\tB\t0\nq2\tC\t1\n", "qrels.tsv")
    ratings = read_rating_pair(write(QUERIES, "queries.tsv"), qrels)
    assert to_tuples(ratings) == [("red mug", "A", 3), ("red mug", "B", 0), ("lamp", "C", 1.5)]


@pytest.mark.parametrize("queries", [QUERIES, "q1\tred mug\nq2\tlamp\n", "q1 red mug\nq2 lamp\n"])
def test_trec_qrels_are_read(write, queries):
    qrels = write("q1 0 A 3\nq1 Q0 B -2\nq2\t0\tC\t1\n", "qrels.txt")
    ratings = read_rating_pair(write(queries, "queries.tsv"), qrels)
    assert to_tuples(ratings) == [("red mug", "A", 3), ("red mug", "B", 0), ("lamp", "C", 1)]


@pytest.mark.parametrize(
    ("queries", "qrels", "message"),
    [
        (QUERIES, "q1 0 A 3\nq1 0 B\n", r"qrels\.txt, line 2, 'q1 0 B': expected query, 0, product and a whole number"),
        (QUERIES, "q1 0 A 3\nq9 0 B 1\n", r"line 2, query 'q9': .*queries\.tsv has no such query; add it there"),
        ("q1\tmug\nq1\tcup\n", "q1 0 A 3\n", r"queries\.tsv, line 2, 'q1' is there twice"),
        ("q1\n", "q1 0 A 3\n", r"line 1, 'q1' has no query"),
        (
            "query_id\tquery\nq1\tmug\nq2\tmug\n",
            "query_id\tdoc_id\trelevance\nq1\tA\t3\nq2\tA\t0\n",
            r"query q2: 0 for query 'mug' and product 'A', which has 3 in .*query q1; keep one",
        ),
    ],
)
def test_pairs_that_do_not_fit_are_named(write, queries, qrels, message):
    with pytest.raises(JudgementsError, match=message):
        read_rating_pair(write(queries, "queries.tsv"), write(qrels, "qrels.txt"))


def test_one_file_or_two_are_asked_for(tmp_path):
    with pytest.raises(JudgementsError, match="expected one file of ratings, or two"):
        read_ratings(queries=tmp_path)
    with pytest.raises(JudgementsError, match="expected one file of ratings, or two"):
        read_ratings(file=tmp_path, queries=tmp_path, qrels=tmp_path)


# --- into the database ------------------------------------------------------------------------------------

RATINGS = "query\tsku\tgrade\nred mug\tA\t3\nred mug\tB\t0\nlamp\tX\t2\n"


def run(path, *options, name="shop"):
    call_command("import_judgements", name, "--file", str(path), *options)


@pytest.mark.django_db
def test_importing_again_updates_and_replacing_removes(write, capsys):
    make_product(sku="A")
    make_product(sku="B", active=False)
    run(write(RATINGS), "--json")
    first = json.loads(capsys.readouterr().out)
    assert first == {
        "name": "shop", "queries": 2, "ratings": 3, "created": 3, "updated": 0, "removed": 0,
        "unknown_skus": 1, "unknown_examples": ["X"],
    }  # fmt: skip
    run(write(RATINGS))
    assert "0 new, 0 changed, 0 removed; 1 SKUs are not in the catalogue, such as X" in capsys.readouterr().out
    run(write("query\tsku\tgrade\nred mug\tB\t1\n"))
    assert "0 new, 1 changed" in capsys.readouterr().out
    assert Judgement.objects.count() == 3
    run(write("query\tsku\tgrade\nred mug\tB\t2\nmug\tA\t3\n"), "--replace")
    assert "1 new, 1 changed, 2 removed" in capsys.readouterr().out
    assert set(Judgement.objects.values_list("query", "sku", "grade")) == {("red mug", "B", 2.0), ("mug", "A", 3.0)}


@pytest.mark.django_db
def test_a_bad_line_brings_nothing_in(write):
    with pytest.raises(CommandError, match="line 5, grade '7'"):
        run(write(f"{RATINGS}mug\tA\t7\n"))
    assert not JudgementSet.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["", " shop", "x" * 101])
def test_names_that_are_none_are_refused(write, name):
    with pytest.raises(CommandError, match="expected 1 to 100 characters"):
        run(write(RATINGS), name=name)


@pytest.mark.django_db
def test_sets_made_of_clicks_take_no_ratings(write):
    JudgementSet.objects.create(name="shop", source="clicks")
    with pytest.raises(CommandError, match="'shop' is made of clicks; give the ratings another"):
        run(write(RATINGS))


@pytest.mark.django_db
def test_what_is_written_is_read_back_the_same(write, tmp_path):
    lines = "query\tsku\tgrade\n" + "".join(f"mug {n % 900}\tS{n}\t{n % 7 / 3!r}\n" for n in range(4500))
    done = import_ratings("shop", read_rating_file(write(lines)))
    assert (done.created, done.unknown_skus) == (4500, 4500)
    written = write("".join(write_ratings(JudgementSet.objects.get())), "out.tsv")
    again = import_ratings("shop", read_rating_file(written), replace=True)
    assert (again.ratings, again.created, again.updated, again.removed) == (4500, 0, 0, 0)


@pytest.mark.django_db
def test_few_questions_are_put_to_the_database(write, django_assert_max_num_queries):
    lines = "query\tsku\tgrade\n" + "".join(f"mug {n}\tS{n}\t1\n" for n in range(1500))
    ratings = read_rating_file(write(lines))
    with django_assert_max_num_queries(30):
        import_ratings("shop", ratings)
