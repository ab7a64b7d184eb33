"""What crosses a file or process border: shared by training, export and the device."""
