"""What the name after `-i` means: a file, one in inventories/, a folder."""

from pathlib import Path

import pytest

from opskit.app import configuration, find


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("stage", "file"),
        ("stage/", "folder"),
        ("./stage", "folder"),
        ("stage/hosts", "folder"),
        ("other", "other"),
        ("far", "far"),
        ("near", "near"),
        ("inventories/near", "near"),
    ],
)
def test_a_bare_name_is_a_folder_only_where_no_file_is_called_so(
    name: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opskit.yaml").write_text("runbooks: [.]\n")
    for path, text in {
        "inventories/stage.yaml": "opskit: 1\nhosts: {file: }\n",
        "stage/hosts": "folder\n",
        "other/hosts.ini": "other\n",
        "inventories/far/hosts.yml": "all: {hosts: {far: }}\n",
        "inventories/near": "near\n",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert list(find.inventory(configuration.settings(), name).hosts) == [host]
