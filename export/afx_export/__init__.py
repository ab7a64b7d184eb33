"""Export: a base model and PEFT adapters become one certified ONNX Runtime GenAI bundle."""
