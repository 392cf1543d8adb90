"""Inference room: numpy, OpenVINO and ONNX Runtime. Never imports PyTorch or transformers."""
