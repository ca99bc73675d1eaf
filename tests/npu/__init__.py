"""The real torch_npu over a fake Ascend runtime (tests/fake_ascend): what ``make test-npu`` runs."""
