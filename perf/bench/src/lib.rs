//! chariot-bench: the load tool.
