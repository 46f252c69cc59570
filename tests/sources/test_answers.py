"""Answers in a csv or parquet file, as logits by sample id, or what is wrong with them."""

import math
from pathlib import Path

import pyarrow
import pytest
import torch
from pyarrow import parquet

from understudy import Batch, InputError, Knowledge, read_answers
from understudy.sources.answers import FLOOR

ANIMALS = ("cat", "dog", "emu")


def csv(folder: Path, text: str) -> Path:
    path = folder / "answers.csv"
    path.write_text(text.replace(" ", "").replace("_", " ") + "\n", encoding="utf-8")
    return path


def told(path: Path, *ids: int, classes=ANIMALS, **options) -> Knowledge:
    teacher = read_answers(path, classes, **options)
    return teacher.observe(Batch(inputs=torch.zeros(len(ids), 1), ids=torch.tensor(ids)))


def floored(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor([[math.log(max(value, FLOOR)) for value in row] for row in rows])


def agree(answer: Knowledge, rows: list[list[float]]) -> None:
    assert answer.logits.dtype == torch.float32
    torch.testing.assert_close(answer.logits, floored(rows), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("word", ["emu", "2"])
def test_a_label_with_a_confidence_leaves_the_rest_to_all_others_alike(tmp_path: Path, word: str) -> None:
    answer = told(csv(tmp_path, f"id,label,confidence,file\n5,{word},0.8,a\n0,{word},1.0,b\n9,{word},0.0,c"), 0, 5, 9)
    agree(answer, [[0.0, 0.0, 1.0], [0.1, 0.1, 0.8], [0.5, 0.5, 0.0]])
    torch.testing.assert_close(answer.logits[1].softmax(-1), torch.tensor([0.1, 0.1, 0.8]))


def test_a_label_alone_is_certain(tmp_path: Path) -> None:
    agree(told(csv(tmp_path, "label,id\ndog,3\ncat,1"), 1, 3), [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_columns_of_classes_are_taken_by_their_names_whatever_their_order(tmp_path: Path) -> None:
    answer = told(csv(tmp_path, "id,emu,note,cat,dog\n0,0.7,x,0.1,0.2\n1,0,y,1,0"), 0, 1)
    agree(answer, [[0.1, 0.2, 0.7], [1.0, 0.0, 0.0]])


def test_columns_of_indices(tmp_path: Path) -> None:
    agree(told(csv(tmp_path, "id,2,0,1\n0,0.7,0.1,0.2"), 0), [[0.1, 0.2, 0.7]])


def test_another_order_of_the_indices_is_said(tmp_path: Path) -> None:
    order = ("emu", "cat", "dog")
    by_column = told(csv(tmp_path, "id,0,1,2\n0,0.7,0.1,0.2"), 0, order=order)
    agree(by_column, [[0.1, 0.2, 0.7]])
    by_label = told(csv(tmp_path, "id,label\n0,0\n1,1\n2,emu"), 0, 1, 2, order=order)
    assert by_label.logits.argmax(-1).tolist() == [2, 0, 2]


def test_classes_called_by_numbers_are_meant_by_name_unless_an_order_is_given(tmp_path: Path) -> None:
    path, years = csv(tmp_path, "id,label\n0,1\n1,2"), ("2", "1", "3")
    assert told(path, 0, 1, classes=years).logits.argmax(-1).tolist() == [1, 0]
    assert told(path, 0, 1, classes=years, order=("3", "1", "2")).logits.argmax(-1).tolist() == [1, 0]
    assert told(path, 0, 1, classes=years, order=("3", "2", "1")).logits.argmax(-1).tolist() == [0, 1]
    columns = csv(tmp_path, "id,1,2,3\n0,0.7,0.2,0.1")
    agree(told(columns, 0, classes=years), [[0.2, 0.7, 0.1]])


def test_logits_stay_as_they_are(tmp_path: Path) -> None:
    path = csv(tmp_path, "id,cat,dog,emu\n0,-3.5,0,12\n1,0.2,0.3,0.5\n2,7,7,7")
    assert told(path, 0, 1, 2).logits.tolist() == [
        [-3.5, 0.0, 12.0],
        [pytest.approx(x) for x in (0.2, 0.3, 0.5)],
        [7] * 3,
    ]
    agree(told(csv(tmp_path, "id,cat,dog,emu\n0,0.2,0.3,0.5"), 0), [[0.2, 0.3, 0.5]])
    said = told(csv(tmp_path, "id,cat,dog,emu\n0,0.2,0.3,0.5"), 0, form="logits")
    assert said.logits.tolist() == [[pytest.approx(x) for x in (0.2, 0.3, 0.5)]]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_likeliest_classes_and_the_rest_together(tmp_path: Path, form: str) -> None:
    if form == "csv":
        path = tmp_path / "answers.csv"
        path.write_text('id,classes,probabilities\n4,"[""emu"", 0]","[0.6, 0.3]"\n2,"[1, ""cat""]","[1.0, 0.0]"\n')
    else:
        path = tmp_path / "answers.parquet"
        columns = {"id": [4, 2], "classes": [[2, 0], [1, 0]], "probabilities": [[0.6, 0.3], [1.0, 0.0]]}
        parquet.write_table(pyarrow.table(columns), path)
    answer = told(path, 2, 4)
    assert answer.top is not None
    agree(answer, [[1.0, 0.0], [0.6, 0.3]])
    assert answer.top.kept.tolist() == [[1, 0], [2, 0]]
    torch.testing.assert_close(answer.top.tails[1.0], floored([[0.0, 0.1]])[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(answer.dense[1].softmax(-1), torch.tensor([0.3, 0.1, 0.6]))


def test_lists_of_all_classes_leave_nothing_out(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    parquet.write_table(pyarrow.table({"id": [0], "classes": [[2, 0, 1]], "probabilities": [[0.6, 0.3, 0.1]]}), path)
    answer = told(path, 0)
    assert answer.top is None
    agree(answer, [[0.3, 0.1, 0.6]])


def test_columns_of_parquet_keep_their_type(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = {"id": pyarrow.array([2**40, 3]), "label": pyarrow.array(["dog", "emu"]).dictionary_encode()}
    parquet.write_table(pyarrow.table(table), path)
    assert told(path, 3, 2**40).logits.argmax(-1).tolist() == [2, 1]


def test_what_was_read_is_said_and_how_many_zeros(tmp_path: Path) -> None:
    path = csv(tmp_path, "id,cat,dog,emu\n0,0,0,1\n1,0.5,0.5,0")
    assert read_answers(path, ANIMALS).about == "probabilities, 3 classes; 3 probabilities below 1e-07 count as that"
    path = csv(tmp_path, "id,label,confidence\n0,dog,0.5")
    assert read_answers(path, ANIMALS).about == "labels with a confidence, 3 classes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,label\n1,dgo",
            r"column 'label' holds 'dgo' in row 0; nearest: 'dog'; expected the name of a class \('cat'",
        ),
        ("id,label\n1,dog\n2,3", r"column 'label' holds '3' in row 1; .*or its index, 0 to 2"),
        ("id,label\n1,-1", "column 'label' holds -1 in row 0"),
        ("id,label\n1,\n2,dog\n3,", "column 'label' is empty in|column 'label' holds '' in row 0"),
        ("id,label,confidence\n1,dog,1.5", "column 'confidence' holds 1.5 in row 0; expected 0 to 1"),
        ("id,label,confidence\n1,dog,nan", "column 'confidence' is empty in row 0; expected an answer in every row"),
        ("id,label,confidence\n1,dog,high", "column 'confidence' holds string, expected numbers"),
        ("di,label\n1,dog", "has no column 'id'; nearest: 'di'; the columns are 'di', 'label'"),
        ("id,label\n1,dog\n1,cat\n2,cat", r"answers more than once for 1 samples \(ids 1\)"),
        ("id,label\n1.5,dog", "column 'id' holds 1.5 in row 0; expected ids, whole numbers from 0"),
        ("id,label\n-2,dog", "column 'id' holds -2 in row 0"),
        ("id,label\n,dog\n1,cat", "column 'id' is empty in row 0"),
        ("id,label,label\n1,dog,dog", "has several columns 'label'"),
        ("id,label", "has no rows"),
        ("", "cannot be read|has no rows"),
        ("id,lable\n1,dog", "has neither a column 'label', nor 'classes' and 'probabilities', nor one for each class"),
        ("id,cat,dgo,emu\n1,0,1,0", "there is none for 'dog'; nearest: 'dgo'. The columns are 'cat', 'dgo', 'emu'"),
        ("id,label,cat,dog,emu\n1,dog,0,1,0", "holds labels and probabilities; say with `form` which of them"),
        (
            "id,cat,dog,emu\n1,0,1,0\n2,0.5,0.6,0.5\n3,1,0,0",
            r"the probabilities in row 1 sum to 1.6; expected 1\. Scores",
        ),
        ("id,cat,dog,emu\n1,0,1,0\n2,-0.5,0.9,0.6\n3,1,0,0", "row 1 hold negative probabilities, such as -0.5"),
        ("id,cat,dog,emu\n1,0,1,0\n2,0,1,\n3,1,0,0", "column 'emu' is empty in row 1"),
        ("id,cat,dog,emu\n1,0,1,0\n2,inf,1,0\n3,1,0,0", "column 'cat' holds inf in row 1"),
    ],
)
def test_each_fault_of_a_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_answers(csv(tmp_path, text), ANIMALS)


@pytest.mark.parametrize(
    ("classes", "probabilities", "message"),
    [
        ([[0, 1], [2]], [[0.5, 0.5], [1.0]], "have 1 to 2 entries; expected as many in every row"),
        ([[0, 1], [2, 2]], [[0.5, 0.5], [0.1, 0.1]], "names a class twice in row 1"),
        ([[0, 1], [2, 3]], [[0.5, 0.5], [0.1, 0.1]], "holds 3 in row 1; expected the name of a class"),
        ([[0, 1], [2, 1]], [[0.5, 0.5], [0.9, 0.2]], "the probabilities in row 1 sum to 1.1; expected 1 or less"),
        ([[0, 1], [2, 1]], [[0.5, 0.5], [0.9, -0.2]], "row 1 hold negative probabilities"),
        ([[0, 1], [2, 1]], [[0.5, 0.5], [0.9, math.nan]], "holds NaN or infinity in row 1"),
        ([[0, 1], [2, 1]], [[0.5, 0.5], [0.9, None]], "in row 1; expected a list"),
        ([0, 1], [[0.5, 0.5], [0.9, 0.1]], "column 'classes' holds 0 in row 0; expected a list"),
    ],
)
def test_each_fault_of_lists_is_named(tmp_path: Path, classes, probabilities, message: str) -> None:
    path = tmp_path / "answers.parquet"
    parquet.write_table(pyarrow.table({"id": [5, 6], "classes": classes, "probabilities": probabilities}), path)
    with pytest.raises(InputError, match=message):
        read_answers(path, ANIMALS)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (("cat", "dog"), "`order` holds all classes, 'cat', 'dog', 'emu', in the order of the file; it has 2"),
        (("cat", "dgo", "emu"), "'dgo' is none of them; nearest: 'dog'"),
    ],
)
def test_an_order_has_all_classes(tmp_path: Path, order, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_answers(csv(tmp_path, "id,label\n1,dog"), ANIMALS, order=order)


def test_a_form_that_the_columns_do_not_have(tmp_path: Path) -> None:
    path = csv(tmp_path, "id,label\n1,dog")
    for form, message in (
        ("probabilities", "does not have one column for each class: there is none for 'cat', 'dog', 'emu'"),
        ("top", "has no column 'classes'"),
    ):
        with pytest.raises(InputError, match=message):
            read_answers(path, ANIMALS, form=form)


def test_files_that_are_not_there_or_not_tables(tmp_path: Path) -> None:
    csv(tmp_path, "id,label\n1,dog")
    with pytest.raises(InputError, match=r"there is no file .*answer.csv; nearest: 'answers.csv'"):
        read_answers(tmp_path / "answer.csv", ANIMALS)
    (tmp_path / "answers.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"answers\.parquet cannot be read"):
        read_answers(tmp_path / "answers.parquet", ANIMALS)
    parquet.write_table(pyarrow.table({"id": [1], "label": [0], "confidence": [math.nan]}), tmp_path / "nan.parquet")
    with pytest.raises(InputError, match="column 'confidence' holds nan in row 0; expected finite numbers"):
        read_answers(tmp_path / "nan.parquet", ANIMALS)
    (tmp_path / "answers.xlsx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"has an ending that is not known; expected \.csv or \.parquet"):
        read_answers(tmp_path / "answers.xlsx", ANIMALS)
