"""What a person chooses by name, apart from what it names: to check a name, torch need not be imported."""

CELL_NAMES = ("feedforward", "rnn-tanh", "rnn-relu", "lstm", "lstm-peephole", "gru", "xlstm")
PRECISIONS = ("auto", "float32", "bfloat16")
TASK_NAMES = ("adding", "recall")
