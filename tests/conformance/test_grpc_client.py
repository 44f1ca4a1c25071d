"""tritonclient over gRPC."""

import queue

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from conftest import address, logits, rows


@pytest.fixture(scope="module")
def client():
    with triton.InferenceServerClient(address("GRPC")) as client:
        yield client


def tensor(count=1):
    tensor = triton.InferInput("INPUT0", [count, 64], "FP32")
    tensor.set_data_from_numpy(rows(count))
    return tensor


def strings(values):
    array = np.array([[value] for value in values], dtype=object)
    tensor = triton.InferInput("INPUT0", list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array)
    return tensor


def refused(call, code):
    with pytest.raises(InferenceServerException) as caught:
        call()
    assert caught.value.status() == f"StatusCode.{code}", caught.value
    return caught.value.message()


def typed(count=1, **contents):
    message = triton.service_pb2.ModelInferRequest(model_name="digits")
    tensor = message.inputs.add(name="INPUT0", datatype="FP32", shape=[count, 64])
    for field, values in (contents or {"fp32_contents": rows(count).ravel().tolist()}).items():
        getattr(tensor.contents, field).extend(values)
    return message


def test_live(client):
    assert client.is_server_live()


def test_ready(client):
    assert client.is_server_ready()


@pytest.mark.parametrize("model,version,ready", [
    ("digits", "", True), ("digits-mlp", "1", True), ("text", "", True), ("digits", "99", False), ("nope", "", False),
])
def test_model_ready(client, model, version, ready):
    assert client.is_model_ready(model, version) == ready


def test_server_metadata(client):
    metadata = client.get_server_metadata()
    assert metadata.name == "migrator" and "statistics" in metadata.extensions


def test_model_metadata(client):
    metadata = client.get_model_metadata("digits")
    assert list(metadata.inputs[0].shape) == [-1, 64] and metadata.outputs[0].datatype == "FP32"
    assert client.get_model_metadata("text", as_json=True)["inputs"][0]["datatype"] == "BYTES"


def test_model_config(client):
    config = client.get_model_config("digits").config
    assert config.max_batch_size == 16 and list(config.input[0].dims) == [64] and config.backend == "pytorch"


def test_index(client):
    index = {entry.name: entry for entry in client.get_model_repository_index().models}
    assert index["digits"].state == "READY" and index["digits"].version == "1"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_answers_are_right(client, count):
    result = client.infer("digits", [tensor(count)])
    np.testing.assert_allclose(result.as_numpy("OUTPUT0"), logits(count), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_typed_contents(client, count):
    answer = client._client_stub.ModelInfer(typed(count))
    got = np.frombuffer(answer.raw_output_contents[0], dtype="<f4").reshape(count, 10)
    np.testing.assert_allclose(got, logits(count), rtol=1e-4, atol=1e-5)


def test_typed_texts(client):
    message = triton.service_pb2.ModelInferRequest(model_name="text")
    message.inputs.add(name="INPUT0", datatype="BYTES", shape=[1, 1]).contents.bytes_contents.append(b"cold rain")
    assert list(client._client_stub.ModelInfer(message).outputs[0].shape) == [1, 2]


def test_texts(client):
    assert client.infer("text", [strings([b"cold rain", b"warm sun"])]).as_numpy("OUTPUT0").shape == (2, 2)


def test_outputs_by_name(client):
    result = client.infer("digits", [tensor()], outputs=[triton.InferRequestedOutput("OUTPUT0")])
    assert result.as_numpy("OUTPUT0").shape == (1, 10)


def test_the_id_is_echoed(client):
    response = client.infer("digits", [tensor()], request_id="who?").get_response()
    assert (response.id, response.model_name, response.model_version) == ("who?", "digits", "1")


@pytest.mark.parametrize("top", [1, 3, 99])
def test_classification(client, top):
    output = triton.InferRequestedOutput("OUTPUT0", class_count=top)
    texts = client.infer("digits", [tensor(2)], outputs=[output]).as_numpy("OUTPUT0")
    assert texts.shape == (2, min(top, 10))
    for row, known in zip(texts, logits(2)):
        assert [int(text.decode().split(":")[1]) for text in row] == np.argsort(-known, kind="stable")[: len(row)].tolist()


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_packed_messages(client, how):
    result = client.infer("digits", [tensor(3)], compression_algorithm=how)
    np.testing.assert_allclose(result.as_numpy("OUTPUT0"), logits(3), rtol=1e-4, atol=1e-5)


def test_priority_timeout_and_parameters_are_taken(client):
    client.infer("digits", [tensor()], priority=1, timeout=5_000_000, parameters={"note": "x"})


def test_a_timeout_that_cannot_be_met(client):
    # An idle instance is tried with such a request once a second, in case that it is faster than expected.
    message = refused(lambda: [client.infer("digits", [tensor()], timeout=1) for _ in range(20)], "UNAVAILABLE")
    assert "deadline" in message


def test_async(client):
    answers = queue.Queue()
    for _ in range(8):
        client.async_infer("digits", [tensor()], callback=lambda result, error: answers.put((result, error)))
    for _ in range(8):
        result, error = answers.get(timeout=30)
        assert error is None
        np.testing.assert_allclose(result.as_numpy("OUTPUT0"), logits(1), rtol=1e-4, atol=1e-5)


def test_stream(client):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        for number in range(16):
            client.async_stream_infer("digits" if number != 5 else "nope", [tensor()], request_id=str(number))
        for number in range(16):
            result, error = answers.get(timeout=30)
            if number == 5:
                assert "nope" in str(error)
            else:
                assert error is None and result.get_response().id == str(number)
    finally:
        client.stop_stream()


def test_stream_that_asks_for_a_last_answer(client):
    """As perf_analyzer does, and clients of models that answer a request several times."""
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        client.async_stream_infer("digits", [tensor()], enable_empty_final_response=True)
        result, error = answers.get(timeout=30)
    finally:
        client.stop_stream()
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param
    np.testing.assert_allclose(result.as_numpy("OUTPUT0"), logits(1), rtol=1e-4, atol=1e-5)
    assert answers.empty()


def test_statistics(client):
    before = client.get_inference_statistics("digits").model_stats[0]
    client.infer("digits", [tensor(2)])
    after = client.get_inference_statistics("digits").model_stats[0]
    assert after.inference_count >= before.inference_count + 2
    assert after.inference_stats.success.ns > before.inference_stats.success.ns
    assert {one.name for one in client.get_inference_statistics().model_stats} == {"digits", "text"}


def test_unload_and_load(client):
    client.unload_model("text")
    try:
        assert not client.is_model_ready("text")
        refused(lambda: client.infer("text", [strings([b"x"])]), "NOT_FOUND")
    finally:
        client.load_model("text")
    assert client.is_model_ready("text")


def test_trace_settings(client):
    changed = client.update_trace_settings("digits", {"trace_level": ["TIMESTAMPS"]})
    assert list(changed.settings["trace_level"].value) == ["TIMESTAMPS"]
    client.update_trace_settings("digits", {"trace_level": None})
    assert list(client.get_trace_settings("digits").settings["trace_level"].value) == ["OFF"]


def test_log_settings(client):
    settings = client.get_log_settings(as_json=True)["settings"]
    assert settings["log_info"] == {"bool_param": True}


@pytest.mark.parametrize("change,told", [
    (lambda m: setattr(m, "model_name", "nope"), "nope"),
    (lambda m: setattr(m, "model_version", "99"), "99"),
])
def test_what_is_not_there(client, change, told):
    message = typed()
    change(message)
    with pytest.raises(Exception) as caught:
        client._client_stub.ModelInfer(message)
    assert caught.value.code().name == "NOT_FOUND" and told in caught.value.details()


@pytest.mark.parametrize("change,told", [
    (lambda m: setattr(m.inputs[0], "name", "X"), "INPUT0"),
    (lambda m: setattr(m.inputs[0], "datatype", "FP64"), "FP64"),
    (lambda m: m.inputs[0].shape.__setitem__(1, 63), "63"),
    (lambda m: m.inputs[0].shape.__setitem__(0, -1), "-1"),
    (lambda m: m.inputs[0].shape.__setitem__(0, 0), "0 rows"),
    (lambda m: m.inputs[0].shape.__setitem__(0, 2**62), "rows"),
    (lambda m: m.inputs[0].shape.pop(), "shape"),
    (lambda m: m.inputs[0].contents.fp32_contents.pop(), "252 bytes"),
    (lambda m: m.inputs[0].contents.int_contents.append(1), "int_contents"),
    (lambda m: m.raw_input_contents.append(b"x"), "both"),
    (lambda m: m.raw_input_contents.extend([b"x", b"y"]), "2 tensors"),
    (lambda m: m.inputs.append(m.inputs[0]), "twice"),
    (lambda m: m.ClearField("inputs"), "missing"),
    (lambda m: m.outputs.add(name="X"), "X"),
    (lambda m: (m.outputs.add(name="OUTPUT0"), m.outputs.add(name="OUTPUT0")), "twice"),
    (lambda m: setattr(m.parameters["priority"], "string_param", "x"), "priority"),
    (lambda m: setattr(m.parameters["timeout"], "int64_param", -1), "timeout"),
    (lambda m: setattr(m.inputs[0].parameters["shared_memory_region"], "string_param", "x"), "shared memory"),
])
def test_what_does_not_fit(client, change, told):
    message = typed()
    change(message)
    with pytest.raises(Exception) as caught:
        client._client_stub.ModelInfer(message)
    assert caught.value.code().name == "INVALID_ARGUMENT", caught.value
    assert told in caught.value.details() and "\n" not in caught.value.details()


def test_a_message_beyond_the_limit(client):
    message = triton.service_pb2.ModelInferRequest(model_name="digits", raw_input_contents=[b"x" * (9 << 20)])
    with pytest.raises(Exception) as caught:
        client._client_stub.ModelInfer(message)
    assert caught.value.code().name in ("OUT_OF_RANGE", "RESOURCE_EXHAUSTED"), caught.value


def test_shared_memory_is_unimplemented(client):
    refused(lambda: client.get_system_shared_memory_status(), "UNIMPLEMENTED")
