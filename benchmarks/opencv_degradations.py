"""The four degradation models in NumPy and OpenCV, one image at a time, as in data loaders.

Each function replays the parameters drawn by a model of `ddpm_pairs.degradations`. The module is the peer in the speed
comparison of `benchmarks/degradations.py` and an independent reference in the tests: it was written from the formulas
and shares no code with the package. Images are BGR, as OpenCV reads them, uint8 outside and float32 in [0, 1] inside.
Slow calls that data loaders use (NumPy's old generators, `unique` to count levels) are replaced with fast ones.

Noise comes from NumPy, so it has the same statistics as ours but different values. `without_noise` and `without_jpeg`
skip these steps, so that the results can be compared image by image.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image
from scipy.special import j1

from ddpm_pairs.degradations import Degradation

MODES = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}
LUMA = (0.114, 0.587, 0.299)


def build_kernel(parameters: dict[str, Any]) -> np.ndarray:
    """Compute a blur kernel (side, side) from its scalar formula."""
    radius = parameters["side"] // 2
    x, y = np.meshgrid(*[np.arange(-radius, radius + 1, dtype=np.float64)] * 2)
    if parameters["kind"] == "sinc":
        cutoff, distance = parameters["cutoff"], np.hypot(x, y)
        distance[radius, radius] = 1
        kernel = cutoff * j1(cutoff * distance) / (2 * math.pi * distance)
        kernel[radius, radius] = cutoff**2 / (4 * math.pi)
    else:
        cos, sin = math.cos(parameters["angle"]), math.sin(parameters["angle"])
        turn = np.array([[cos, -sin], [sin, cos]])
        covariance = turn @ np.diag([parameters["sigma_x"] ** 2, parameters["sigma_y"] ** 2]) @ turn.T
        inverse, at = np.linalg.inv(covariance), np.stack([x, y])
        form = np.einsum("iyx,ij,jyx->yx", at, inverse, at) ** parameters.get("beta", 1.0)
        kernel = 1 / (1 + form) if parameters["kind"].startswith("plateau") else np.exp(-form / 2)
    return kernel / kernel.sum()


def blur(image: np.ndarray, parameters: dict[str, Any] | None) -> np.ndarray:
    """Convolve with the recorded kernel and reflected borders; ``None`` returns the image unchanged."""
    if parameters is None:
        return image
    return cv2.filter2D(image, -1, build_kernel(parameters).astype(np.float32), borderType=cv2.BORDER_REFLECT_101)


def resize(image: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """Resize to (height, width) with OpenCV."""
    return cv2.resize(image, size[::-1], interpolation=MODES[mode])


def resize_antialiased(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a uint8 or float32 image with Pillow's bicubic filter, which is antialiased when shrinking."""
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
    planes = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC) for plane in cv2.split(image)]
    return cv2.merge([np.asarray(plane) for plane in planes])


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Scale (height, width) by a factor, rounded down, at least 1."""
    return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Convert [0, 1] to uint8, rounded."""
    return cv2.convertScaleAbs(image.clip(0, 1), alpha=255)


def to_float(image: np.ndarray) -> np.ndarray:
    """Convert uint8 to float32 in [0, 1]."""
    return image.astype(np.float32) / 255


@dataclass(frozen=True)
class OpenCVDegradation:
    """One of the four models.

    Attributes:
        name: `bicubic`, `classical`, `bsrgan`, or `real_esrgan`.
        scale: HQ side over LQ side.
        faces: Degrade to a quarter of the sides and resize LQ to the HQ grid, as `OnHQGrid` and `ClassicalFaces` do.
        without_noise: Skip all noise.
        without_jpeg: Skip all JPEG compression.
    """

    name: str
    scale: int = 4
    faces: bool = False
    without_noise: bool = False
    without_jpeg: bool = False

    def __call__(self, hq: np.ndarray, parameters: dict[str, Any]) -> np.ndarray:
        """Degrade one image.

        Args:
            hq: (H, W, 3) uint8, BGR.
            parameters: The parameters drawn by the package's model.

        Returns:
            (H / scale, W / scale, 3) uint8, BGR.
        """
        parameters = parameters.get("degradation", {"parameters": parameters})["parameters"]  # OnHQGrid nests them
        steps = {
            "bicubic": self._bicubic,
            "classical": self._classical,
            "bsrgan": self._bsrgan,
            "real_esrgan": self._real_esrgan,
        }
        divisor = 4 if self.faces else self.scale
        lq_size = (-(-hq.shape[0] // divisor), -(-hq.shape[1] // divisor))
        return steps[self.name](hq, parameters, lq_size)

    def _bicubic(self, hq: np.ndarray, parameters: dict[str, Any], lq_size: tuple[int, int]) -> np.ndarray:
        lq = resize_antialiased(hq, lq_size)
        return resize_antialiased(lq, hq.shape[:2]) if self.faces else lq

    def _classical(self, hq: np.ndarray, parameters: dict[str, Any], lq_size: tuple[int, int]) -> np.ndarray:
        image = blur(to_float(hq), parameters["blur"])
        if self.faces:
            image = resize(image, scaled(hq.shape[:2], 1 / parameters["resize"]["factor"]), "bilinear")
        else:
            image = resize_antialiased(image, lq_size)
        image = self._jpeg(self._noise(image, parameters["noise"]), parameters["quality"])
        if self.faces:
            image = resize(image, hq.shape[:2], "bilinear")
        return to_uint8(image)

    def _real_esrgan(self, hq: np.ndarray, parameters: dict[str, Any], lq_size: tuple[int, int]) -> np.ndarray:
        (first, second), tail, image = parameters["stages"], parameters["tail"], to_float(hq)
        for stage, grid in ((first, hq.shape[:2]), (second, lq_size)):
            image = blur(image, stage["blur"])
            image = resize(image, scaled(grid, stage["resize"]["factor"]), stage["resize"]["mode"])
            image = self._noise(image, stage["noise"])
            if stage is first or not tail["jpeg_last"]:
                image = self._jpeg(image, stage["quality"])
        image = blur(resize(image, lq_size, tail["mode"]), tail["sinc"])
        if tail["jpeg_last"]:
            image = self._jpeg(image, second["quality"])
        if self.faces:
            image = resize(image.clip(0, 1), hq.shape[:2], "bilinear")
        return to_uint8(image)

    def _bsrgan(self, hq: np.ndarray, parameters: dict[str, Any], lq_size: tuple[int, int]) -> np.ndarray:
        image, height, width = to_float(hq), *hq.shape[:2]
        grid = tuple(side * (4 if self.faces else self.scale) for side in lq_size)
        image = cv2.copyMakeBorder(image, 0, grid[0] - height, 0, grid[1] - width, cv2.BORDER_REPLICATE)
        if parameters["halve"] is not None:
            mode, half = parameters["halve"]["mode"], (grid[0] // 2, grid[1] // 2)
            image = resize_antialiased(image, half) if mode == "matlab" else resize(image, half, mode)
            image = image.clip(0, 1)
        for step in parameters["operations"]:
            match step["operation"]:
                case "blur":
                    image = blur(image, step["blur"])
                case "down" if "resize" in step:
                    size = scaled(image.shape[:2], step["resize"]["factor"])
                    image = resize(image, size, step["resize"]["mode"]).clip(0, 1)
                case "down":
                    kernel = shifted_gaussian(**step["kernel"])
                    # filter2D correlates: a kernel shifted to the lower right samples there, which counters the phase
                    blurred = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
                    image = blurred[:: step["step"], :: step["step"]].clip(0, 1)
                case "resize":
                    image = resize(image, lq_size, step["mode"]).clip(0, 1)
                case "noise":
                    image = self._noise(image, step["noise"])
                case "jpeg":
                    image = self._jpeg(image, step["quality"])
        image = self._jpeg(image, parameters["quality"])
        if self.faces:
            image = resize(image, grid, "bilinear")[:height, :width]
        return to_uint8(image)

    def _noise(self, image: np.ndarray, parameters: dict[str, Any]) -> np.ndarray:
        if self.without_noise:
            return image.clip(0, 1)
        generator = np.random.default_rng(parameters["noise_seed"])
        if parameters["kind"] == "correlated":
            # the covariance is recorded for R, G, B
            covariance = np.array(parameters["covariance"])[::-1, ::-1]
            noise = generator.multivariate_normal(np.zeros(3), covariance, image.shape[:2], method="eigh")
            noise = noise.astype(np.float32)
        elif parameters["kind"] == "gaussian":
            shape = (*image.shape[:2], 1) if parameters["gray"] else image.shape
            noise = generator.standard_normal(shape, dtype=np.float32) * np.float32(parameters["level"] / 255)
        else:
            source = image @ np.array(LUMA, np.float32)[:, None] if parameters["gray"] else image
            levels = np.rint(source.clip(0, 1) * 255)
            distinct = np.count_nonzero(np.bincount(levels.astype(np.uint8).ravel(), minlength=256))
            peak = 2.0 ** math.ceil(math.log2(distinct))
            rounded = levels / np.float32(255)
            noise = (generator.poisson(rounded * peak) / np.float32(peak) - rounded) * np.float32(parameters["level"])
        return (image + noise).clip(0, 1).astype(np.float32, copy=False)

    def _jpeg(self, image: np.ndarray, quality: float) -> np.ndarray:
        if self.without_jpeg:
            return image.clip(0, 1)
        _, code = cv2.imencode(".jpg", to_uint8(image), [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        return to_float(cv2.imdecode(code, cv2.IMREAD_COLOR))


def shifted_gaussian(sigma: float, shift: float, side: int = 25) -> np.ndarray:
    """Compute a Gaussian (side, side), shifted to higher indices by linear interpolation with constant borders."""
    offsets = np.arange(side) - side // 2
    line = np.interp(offsets - shift, offsets, np.exp(-(offsets**2) / (2 * sigma**2)))
    kernel = np.outer(line, line)
    return (kernel / kernel.sum()).astype(np.float32)


def peer_of(model: Degradation, **without: bool) -> OpenCVDegradation:
    """Return the pipeline's counterpart of a model of the package."""
    name = getattr(model, "degradation", model).name.removesuffix("_faces")
    return OpenCVDegradation(name, model.scale, model.name in ("on_hq_grid", "classical_faces"), **without)
