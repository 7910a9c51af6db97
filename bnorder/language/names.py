"""How people write what a study's axes name: orderings, activations, data sets."""

from dataclasses import dataclass

from bnorder.errors import UserError
from bnorder.language.words import Language
from bnorder.ordering import Ordering

LAYER_WORDS = {"conv": "Conv", "bn": "BN", "act": "act"}
ACTIVATION_WORDS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}
DATASET_WORDS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR-10",
}


def ordering_words(ordering: str) -> str:
    """`bn-act-conv` as people write it: BN-act-Conv."""
    return "-".join(LAYER_WORDS[layer] for layer in Ordering(ordering).layers)


def activation_words(activation: str, words: Language) -> str:
    """`leaky_relu-0.1` as people write it: LeakyReLU (0.1)."""
    kind, _, slope = activation.partition("-")
    name = ACTIVATION_WORDS.get(kind) or words.templates.get(f"activation.{kind}", kind)
    return name + (f" ({slope})" if slope else "")


def dataset_words(dataset: str, words: Language) -> str:
    """A data set's name as people write it; a user's folder by its last part."""
    if dataset.startswith("folder:"):
        return words.say("dataset.folder", folder=dataset.rstrip("/").rpartition("/")[2])
    if dataset == "digits":
        return words.say("dataset.digits")
    return DATASET_WORDS.get(dataset, dataset)


@dataclass(frozen=True)
class Level:
    """A value of an axis, to be named in whichever language."""

    axis: str
    value: str | int

    def words(self, words: Language) -> str:
        """As people write it; what is no value of ours, such as a stranger's ordering, as it is."""
        if self.axis == "depth":
            return words.count(int(self.value), "depth")
        text = str(self.value)
        if self.axis == "dataset":
            return dataset_words(text, words)
        if self.axis == "activation":
            return activation_words(text, words)
        if self.axis in ("bn_class", "cut"):
            return words.say(f"{self.axis.removeprefix('bn_')}.{text}")
        try:
            return ordering_words(text) if self.axis == "ordering" else text
        except UserError:
            return text
