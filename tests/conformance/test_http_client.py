"""tritonclient over HTTP."""

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from conftest import address, logits, rows


@pytest.fixture(scope="module")
def client():
    with triton.InferenceServerClient(address("HTTP"), concurrency=4) as client:
        yield client


def tensor(count=1, binary=True):
    tensor = triton.InferInput("INPUT0", [count, 64], "FP32")
    tensor.set_data_from_numpy(rows(count), binary_data=binary)
    return tensor


def strings(values, binary=True):
    array = np.array([[value] for value in values], dtype=object)
    tensor = triton.InferInput("INPUT0", list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def refused(call, status):
    with pytest.raises(InferenceServerException) as caught:
        call()
    assert str(status) == caught.value.status(), caught.value
    return caught.value.message()


def test_live(client):
    assert client.is_server_live()


def test_ready(client):
    assert client.is_server_ready()


@pytest.mark.parametrize("model", ["digits", "digits-mlp", "text", "texts"])
def test_models_are_ready_by_the_names_of_tenant_and_model(client, model):
    assert client.is_model_ready(model)


def test_versions_are_ready_or_not(client):
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "99")
    assert not client.is_model_ready("nope")


def test_server_metadata(client):
    metadata = client.get_server_metadata()
    assert metadata["name"] == "migrator" and metadata["version"]
    assert {"binary_tensor_data", "statistics", "classification"} <= set(metadata["extensions"])


def test_model_metadata(client):
    metadata = client.get_model_metadata("digits")
    assert metadata["name"] == "digits"
    assert metadata["inputs"] == [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 64]}]
    assert metadata["outputs"] == [{"name": "OUTPUT0", "datatype": "FP32", "shape": [-1, 10]}]


def test_model_config(client):
    config = client.get_model_config("text")
    assert config["max_batch_size"] == 8 and config["input"][0]["data_type"] == "TYPE_STRING"


def test_index(client):
    index = {entry["name"]: entry for entry in client.get_model_repository_index()}
    assert index["digits"]["state"] == "READY" and index["text"]["version"] == "1"


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_answers_are_right(client, binary_in, binary_out, count):
    output = triton.InferRequestedOutput("OUTPUT0", binary_data=binary_out)
    result = client.infer("digits", [tensor(count, binary_in)], outputs=[output])
    np.testing.assert_allclose(result.as_numpy("OUTPUT0"), logits(count), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("binary_in", [True, False])
def test_no_outputs_means_all_of_them(client, binary_in):
    result = client.infer("digits", [tensor(1, binary_in)])
    np.testing.assert_allclose(result.as_numpy("OUTPUT0"), logits(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_texts(client, binary):
    result = client.infer("text", [strings([b"cold rain 2", b"warm sun 3"], binary)])
    assert result.as_numpy("OUTPUT0").shape == (2, 2)


@pytest.mark.parametrize("version", ["", "1"])
def test_version(client, version):
    assert client.infer("digits", [tensor()], model_version=version).get_response()["model_version"] == "1"


def test_the_id_is_echoed(client):
    assert client.infer("digits", [tensor()], request_id="who?").get_response()["id"] == "who?"


def test_priority_and_timeout_are_taken(client):
    assert client.infer("digits", [tensor()], priority=1, timeout=5_000_000).as_numpy("OUTPUT0").shape == (1, 10)


def test_custom_parameters_are_taken(client):
    client.infer("digits", [tensor()], parameters={"note": "x", "count": 3, "flag": True})


def test_a_timeout_that_cannot_be_met_is_503(client):
    # An idle instance is tried with such a request once a second, in case that it is faster than expected.
    message = refused(lambda: [client.infer("digits", [tensor()], timeout=1) for _ in range(20)], 503)
    assert "deadline" in message


@pytest.mark.parametrize("how", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_packed_requests(client, how, binary):
    result = client.infer("digits", [tensor(3, binary)], request_compression_algorithm=how)
    np.testing.assert_allclose(result.as_numpy("OUTPUT0"), logits(3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_packed_answers(client, how, binary):
    output = triton.InferRequestedOutput("OUTPUT0", binary_data=binary)
    result = client.infer("digits", [tensor(3)], outputs=[output], request_id="x" * 2000, response_compression_algorithm=how)
    np.testing.assert_allclose(result.as_numpy("OUTPUT0"), logits(3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("top", [1, 3, 99])
def test_classification(client, binary, top):
    output = triton.InferRequestedOutput("OUTPUT0", binary_data=binary, class_count=top)
    texts = client.infer("digits", [tensor(2)], outputs=[output]).as_numpy("OUTPUT0")
    assert texts.shape == (2, min(top, 10))
    for row, known in zip(texts, logits(2)):
        classes = [int((text.decode() if isinstance(text, bytes) else text).split(":")[1]) for text in row]
        assert classes == np.argsort(-known, kind="stable")[: len(classes)].tolist()


def test_async(client):
    asked = [client.async_infer("digits", [tensor()]) for _ in range(8)]
    for one in asked:
        np.testing.assert_allclose(one.get_result().as_numpy("OUTPUT0"), logits(1), rtol=1e-4, atol=1e-5)


def test_statistics_move(client):
    def counts():
        stats = client.get_inference_statistics("digits")["model_stats"][0]
        return stats["inference_count"], stats["execution_count"], stats["inference_stats"]["success"]["count"]

    before = counts()
    client.infer("digits", [tensor(3)])
    after = counts()
    assert after[0] >= before[0] + 3 and after[1] > before[1] and after[2] > before[2]


def test_statistics_of_all(client):
    stats = {one["name"]: one for one in client.get_inference_statistics()["model_stats"]}
    assert set(stats) == {"digits", "text"}
    assert stats["digits"]["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
    assert stats["digits"]["batch_stats"][0]["compute_infer"]["count"] > 0


def test_unload_and_load(client):
    client.unload_model("text")
    try:
        assert not client.is_model_ready("text")
        assert client.is_server_ready(), "an unloaded model does not make the server unready"
        refused(lambda: client.infer("text", [strings([b"x"])]), 404)
        index = {entry["name"]: entry for entry in client.get_model_repository_index()}
        assert index["text"]["state"] == "UNAVAILABLE"
    finally:
        client.load_model("text")
    assert client.is_model_ready("text")


def test_load_takes_no_configuration(client):
    refused(lambda: client.load_model("text", config="{}"), 400)


def test_load_of_an_unknown_model(client):
    refused(lambda: client.load_model("nope"), 404)


def test_trace_settings(client):
    before = client.get_trace_settings()
    changed = client.update_trace_settings("digits", {"trace_level": ["TIMESTAMPS"], "trace_rate": "2"})
    assert changed["trace_level"] == ["TIMESTAMPS"] and changed["trace_rate"] == "2"
    assert client.get_trace_settings() == before
    client.update_trace_settings("digits", {"trace_level": None, "trace_rate": None})
    assert client.get_trace_settings("digits") == before


def test_log_settings(client):
    assert client.get_log_settings()["log_info"] is True
    assert client.update_log_settings({"log_verbose_level": 1})["log_verbose_level"] == 1
    assert client.update_log_settings({"log_verbose_level": 0, "log_info": True})["log_verbose_level"] == 0
    refused(lambda: client.update_log_settings({"log_file": "/tmp/x"}), 400)


@pytest.mark.parametrize("model", ["nope", "digits/../text", "a b", "é"])
def test_unknown_models(client, model):
    refused(lambda: client.infer(model, [tensor()]), 404)


def test_wrong_shape(client):
    wrong = triton.InferInput("INPUT0", [1, 63], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 63), dtype=np.float32))
    assert "shape" in refused(lambda: client.infer("digits", [wrong]), 400)


def test_wrong_datatype(client):
    wrong = triton.InferInput("INPUT0", [1, 64], "FP64")
    wrong.set_data_from_numpy(np.zeros((1, 64)))
    assert "FP64" in refused(lambda: client.infer("digits", [wrong]), 400)


def test_too_many_rows(client):
    wrong = triton.InferInput("INPUT0", [17, 64], "FP32")
    wrong.set_data_from_numpy(np.zeros((17, 64), dtype=np.float32))
    assert "16" in refused(lambda: client.infer("digits", [wrong]), 400)


def test_wrong_output(client):
    refused(lambda: client.infer("digits", [tensor()], outputs=[triton.InferRequestedOutput("X")]), 400)


def test_shared_memory_is_refused(client):
    wrong = triton.InferInput("INPUT0", [1, 64], "FP32")
    wrong.set_shared_memory("region", 256)
    assert "shared memory" in refused(lambda: client.infer("digits", [wrong]), 400)
