"""How a packed convolution is shared among blocks of a GPU's threads: constants of fused.cu.

A block has 48 KiB of shared memory and at most 1,024 threads. The sizes were chosen by trial on an
H200 and are the same for every GPU, and so is the order in which sums are taken.
"""

from dataclasses import dataclass

THREADS = 256
SHARED = 11_000  # floats of shared memory that a block may have: 44 of 48 KiB
WEIGHING = 8_000  # as much for the gradient by weights, so that several blocks share a processor


@dataclass(frozen=True)
class Shape:
    """A replica's convolution: channels in and out, pixels of the image, side of the kernel."""

    inputs: int
    outputs: int
    height: int
    width: int
    side: int

    @property
    def segment(self) -> int:
        """Neighbouring pixels of a thread: those with which a row comes out best."""
        return min(range(8, 3, -1), key=lambda size: -(-self.width // size) * size)

    @property
    def segments(self) -> int:
        return -(-self.width // self.segment)

    @property
    def constants(self) -> dict[str, int]:
        names = {"IN": self.inputs, "OUT": self.outputs, "SIDE": self.side}
        return names | {"HEIGHT": self.height, "WIDTH": self.width, "SEGMENT": self.segment}

    def convolving(self) -> tuple[int, dict[str, int]]:
        """Images of a block of `convolve`, and its constants."""
        group = next(size for size in (4, 2, 1) if self.outputs % size == 0)
        chunks = [size for size in (8, 4, 1) if self.inputs % size == 0]
        chunk = next((size for size in chunks if self._images(size) > 0), 1)
        an_image = self.height * self.segments * (self.outputs // group)
        images = max(1, min(6, 224 // an_image, self._images(chunk)))
        given = {"GROUP": group, "CHUNK": chunk, "READ": min(chunk, 4), "IMAGES": images}
        return images, self.constants | given | {"THREADS": images * an_image}

    def _images(self, chunk: int) -> int:
        """How many a block of `convolve` has room for, so many channels at a time."""
        row = (self.segments * self.segment + self.side - 1) | 1
        plane = (self.height + self.side - 1) * row + 7
        return (SHARED - chunk * self.side**2 * self.outputs) // (chunk * plane)

    def weighing(self) -> tuple[int, dict[str, int]]:
        """Images of a block of `weight_gradient` at a time, and its constants."""
        bands = next(n for n in range(1, self.height + 1) if self._floats(n) <= WEIGHING)
        band = -(-self.height // bands)
        images = min(2, WEIGHING // self._floats(1)) if bands == 1 else 1
        given = {"BAND": band, "IMAGES": images, "X_VECTOR": 4 if self.inputs % 4 == 0 else 1}
        threads = max(128, self.inputs * self.outputs // 4)
        crowd = 640 // threads if self.inputs > 1 and self.side <= 3 else 1
        return images, self.constants | given | {"THREADS": threads, "CROWD": crowd}

    def _floats(self, bands: int) -> int:
        """Shared memory of `weight_gradient` for an image's rows in so many bands."""
        band = -(-self.height // bands)
        x = (band + self.side - 1) * (self.width + self.side - 1) * self.inputs
        dy = band * (self.segments * self.segment * self.outputs + 16) if self.inputs > 1 else 0
        return x + dy + self.segment * self.inputs + 3

    @property
    def suits(self) -> bool:
        """Whether blocks have room for it."""
        odd, quads = self.side % 2 == 1, self.outputs % 4 == 0
        fits = self.inputs * self.outputs // 4 <= THREADS and self._floats(self.height) <= WEIGHING
        both = (self, self.turned)
        fits = fits and all(shape._images(1) > 0 for shape in both)
        return odd and quads and fits and all(s.convolving()[1]["THREADS"] <= 1024 for s in both)

    @property
    def turned(self) -> "Shape":
        """The convolution that gives the gradient by the inputs."""
        return Shape(self.outputs, self.inputs, self.height, self.width, self.side)
