"""The type stubs name what is there, and nothing else."""

import ast
import pathlib

import chariot

STUB = pathlib.Path(chariot.__file__).with_name("__init__.pyi")


def described():
    """The classes of the stub, each with its public names."""
    tree = ast.parse(STUB.read_text())
    return {
        node.name: {
            part.name
            for part in node.body
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))
            and not part.name.startswith("_")
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def test_stubs_and_classes_have_the_same_names():
    stubs = described()
    assert set(stubs) == {name for name in chariot.__all__ if name != "__version__"}
    for name in ("Client", "View", "WriteBuffer", "AsyncClient"):
        there = {part for part in vars(getattr(chariot, name)) if not part.startswith("_")}
        assert there == stubs[name], name


def test_both_faces_have_the_same_calls():
    stubs = described()
    assert stubs["Client"] - {"place", "address"} <= stubs["AsyncClient"]


def test_the_package_is_typed():
    assert STUB.with_name("py.typed").exists()
