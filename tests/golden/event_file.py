"""Prints what the real `tensorboard` package reads from an event file, for a check by hand. Makes no file.

One line `tag step value` for each scalar, in file order (value as float32's shortest decimal form); tensors, images
and the like print as `tag step <kind>`. The file version and the number of events go to stderr. Exit 1 with a
message if a record is truncated, a checksum is wrong, the file version is not brain.Event:2, or TensorBoard's own
loader sees another number of events.

Made with tensorboard 2.21.0.
Run: python event_file.py FILE      (python with: pip install tensorboard)
"""

import os
import sys

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.util.tensor_util import make_ndarray


def scalar(value):
    """The number in a summary value (old simple_value or a tensor of one number), else None."""
    if value.HasField("simple_value"):
        return np.float32(value.simple_value)
    if value.HasField("tensor"):
        array = make_ndarray(value.tensor)
        if array.size == 1 and np.issubdtype(array.dtype, np.number):
            return array.reshape(())[()]
    return None


def main(file):
    if not os.path.isfile(file):
        sys.exit(f"{file}: no such file")
    reader, count, version = PyRecordReader_New(file), 0, None
    while True:
        try:
            reader.GetNext()
        except errors.OutOfRangeError:
            break
        except errors.DataLossError as e:
            sys.exit(f"{file}: record {count}: {e}")
        event = Event.FromString(reader.record())
        if count == 0:
            version = event.file_version
            if version != "brain.Event:2":
                sys.exit(f"{file}: the first event has file version {version!r}, not 'brain.Event:2'")
        count += 1
        for value in event.summary.value:
            number = scalar(value)
            print(value.tag, event.step, f"<{value.WhichOneof('value')}>" if number is None else number)
    if count == 0:
        sys.exit(f"{file}: no events")
    seen = sum(1 for _ in EventFileLoader(file).Load())
    if seen != count:
        sys.exit(f"{file}: {count} events, but TensorBoard's loader sees {seen}")
    print(f"{version}, {count} events", file=sys.stderr)


if len(sys.argv) != 2:
    sys.exit("usage: python event_file.py FILE")
main(sys.argv[1])
