"""The messages of Triton's gRPC service (KServe's protocol) that the router sends and reads.

The definitions are Triton's (``grpc_service.proto``, ``model_config.proto``), less what nobody here uses.
"""

from __future__ import annotations

from triton_router.protobuf import messages

_message = messages(
    "triton_router.inference",
    """
message ServerReadyResponse {
  bool ready = 1
}
message ModelConfigRequest {
  string name = 1
}
message ModelConfigResponse {
  ModelConfig config = 1
}
message ModelConfig {
  string platform = 2
  map<string,ModelParameter> parameters = 14
  string backend = 17
}
message ModelParameter {
  string string_value = 1
}
message ModelStatisticsRequest {
  string name = 1
}
message ModelStatisticsResponse {
  repeated ModelStatistics model_stats = 1
}
message ModelStatistics {
  string name = 1
  int64 inference_count = 4
  int64 execution_count = 5
  InferStatistics inference_stats = 6
}
message InferStatistics {
  StatisticDuration success = 1
  StatisticDuration fail = 2
  StatisticDuration queue = 3
  StatisticDuration compute_infer = 5
}
message StatisticDuration {
  int64 count = 1
  int64 ns = 2
}
message ModelInferRequest {
  string model_name = 1
  repeated InferInputTensor inputs = 5
  repeated InferRequestedOutputTensor outputs = 6
  repeated bytes raw_input_contents = 7
}
message InferInputTensor {
  string name = 1
  string datatype = 2
  repeated int64 shape = 3
}
message InferRequestedOutputTensor {
  string name = 1
}
message ModelInferResponse {
  repeated InferOutputTensor outputs = 5
  repeated bytes raw_output_contents = 6
}
message InferOutputTensor {
  string name = 1
  string datatype = 2
  repeated int64 shape = 3
}
""",
)

ServerReadyResponse = _message("ServerReadyResponse")
ModelConfigRequest = _message("ModelConfigRequest")
ModelConfigResponse = _message("ModelConfigResponse")
ModelStatisticsRequest = _message("ModelStatisticsRequest")
ModelStatisticsResponse = _message("ModelStatisticsResponse")
ModelInferRequest = _message("ModelInferRequest")
ModelInferResponse = _message("ModelInferResponse")
