def test_a_repeated_run_takes_no_other_options(cnnprobe):
    answer = cnnprobe("topk", "--resume", "v001", "k=4")
    assert answer.status == 2
    assert "a run is repeated with its own options" in answer.err


def test_a_run_of_another_command_is_not_resumed(cnnprobe, tmp_path):
    folder = tmp_path / "outputs/record/a-b/v001"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"command": "record", "status": "interrupted"}')
    (folder / "config.yaml").write_text("{}")
    answer = cnnprobe("topk", "--resume", str(folder))
    assert answer.status == 2
    assert "is a run of record, not of topk" in answer.err


def test_a_run_without_a_configuration_is_told(cnnprobe, tmp_path):
    folder = tmp_path / "outputs/record/a-b/v001"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    answer = cnnprobe("record", "--rerun", str(folder))
    assert answer.status == 2
    assert "there is no file" in answer.err and "config.yaml" in answer.err
