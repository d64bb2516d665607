"""Reading queries and ratings, and saying what is wrong with them."""

import pytest

from retrieval.evaluation.judgements import JudgementsError, JudgementSet, read_judgements

QUERIES = 'query_id\tquery\nq1\tred mug\nq2\t27" monitor\n'
QRELS = "query_id\tdoc_id\trelevance\nq1\tA\t3\nq1\tB\t0\nq2\tC\t1\n"


@pytest.fixture
def read(tmp_path):
    def write_and_read(queries: str | bytes = QUERIES, qrels: str | bytes = QRELS) -> JudgementSet:
        paths = tmp_path / "q.tsv", tmp_path / "r.tsv"
        for path, content in zip(paths, (queries, qrels), strict=True):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_judgements(*paths)

    return write_and_read


def test_queries_and_grades_are_read_as_they_stand(read):
    judgements = read()
    assert judgements.queries == {"q1": "red mug", "q2": '27" monitor'}
    assert judgements.grades == {"q1": {"A": 3, "B": 0}, "q2": {"C": 1}}
    assert (len(judgements), judgements.highest_grade, judgements.skus) == (3, 3, {"A", "B", "C"})


def test_other_columns_another_order_blank_lines_and_a_byte_order_mark_do_no_harm(read):
    queries = "\ufeffquery\tquery_id\tdate\r\n\r\nred mug\tq1\t2024\r\n"
    assert read(queries, "relevance\tdoc_id\tquery_id\r3\tA\tq1") == read(
        "query_id\tquery\nq1\tred mug", "query_id\tdoc_id\trelevance\nq1\tA\t3\nq1\tA\t3\n"
    )


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ("", r"q\.tsv, line 1: the file is empty; expected a header line with query_id, query, tabs between them"),
        (" \n\n", r"the file is empty"),
        ("query_id\tquery\n", r"q\.tsv: no line follows the header"),
        ("query_id,query\nq1,mug\n", r"line 1: column query_id is missing in 'query_id,query'; .*tabs between them"),
        ("query_id\tquery\tquery\nq1\ta\tb\n", r"column query is there 2 times"),
        ("query_id\tquery\nq1\tmug\nq1\tcup\n", r"q\.tsv, line 3, query_id 'q1': also on line 2; give every query"),
        ("query_id\tquery\nq1\n", r"line 2, query '': has no value"),
        ("query_id\tquery\n\t mug\n", r"line 2, query_id '': has no value"),
        ("query_id\tquery\nq1\tcafé\n".encode("latin-1"), r"line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (QUERIES.encode("utf-16"), r"line 1: byte 0xff is not UTF-8"),
    ],
)
def test_bad_queries_are_named_with_place_and_cure(read, queries, message):
    with pytest.raises(JudgementsError, match=message):
        read(queries)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("q1\tA\tgood", r"r\.tsv, line 2, relevance 'good': expected a whole number from 0 \(wrong\) to 100"),
        ("q1\tA\t2.5", r"relevance '2\.5': expected a whole number"),
        ("q1\tA\t-1", r"relevance '-1': expected a whole number from 0"),
        ("q1\tA\t101", r"relevance '101'"),
        ("q1\tA\t٣", r"relevance '٣'"),
        ("q1\tA", r"line 2, relevance '': has no value"),
        ("q1\tA\t3\n\nq1\tA\t2", r"line 4, relevance '2': line 2 gives 3 for the same query and doc_id 'A'; keep one"),
        ("q9\tA\t3", r"r\.tsv, line 2, query_id 'q9': .*q\.tsv has no such query; add it there, or leave out"),
    ],
)
def test_bad_ratings_are_named_with_place_and_cure(read, lines, message):
    with pytest.raises(JudgementsError, match=message):
        read(qrels=f"query_id\tdoc_id\trelevance\n{lines}\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(JudgementsError, match=r"none\.tsv: cannot be read: No such file or directory"):
        read_judgements(tmp_path / "none.tsv", tmp_path / "none.tsv")
    with pytest.raises(JudgementsError, match=r"cannot be read: Is a directory"):
        read_judgements(tmp_path, tmp_path)


@pytest.mark.parametrize(("grades", "usual"), [((0, 2, 3, 4), 3), ((0, 1), 1), ((1, 2), 2), ((4, 5), 5)])
def test_a_3_is_relevant_and_where_there_is_none_the_highest_grade(grades, usual):
    graded = {f"P{grade}": grade for grade in grades}
    assert JudgementSet({"q1": "mug"}, {"q1": graded}).usual_relevant_from == usual


def test_only_queries_with_a_relevant_product_are_kept_with_all_their_grades(read):
    kept = read().with_relevant(3)
    assert (kept.queries, kept.grades) == ({"q1": "red mug"}, {"q1": {"A": 3, "B": 0}})
    assert set(read().with_relevant(1).queries) == {"q1", "q2"}


def test_a_grade_that_no_product_has_is_refused(read):
    with pytest.raises(JudgementsError, match="no query has a product graded 4 or higher: the highest grade is 3"):
        read().with_relevant(4)
    with pytest.raises(JudgementsError, match="grade 0 cannot count as relevant, expected 1 to 100"):
        read().with_relevant(0)
