"""The four degradation models for one picture at a time, by NumPy and OpenCV, as data loaders do it.

Each function replays the parameters that a model of `ddpm_pairs.degradations` has drawn. It serves as the peer of the
speed comparison in `benchmarks/degradations.py` and as an independent reference in the tests: it was written from the
formulas and shares no code with the package. Pictures are BGR as OpenCV reads them, uint8 outside and float32 in
[0, 1] within. Where loaders take a slow call (NumPy's old generators, `unique` to count levels), this takes the quick
one.

Noise fields come from NumPy, so they have the statistics of ours and not their values. With `without_noise` and
`without_jpeg` these steps are left out, and what is left can be compared picture by picture.
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
    """A blur kernel (side, side) from its scalar formula."""
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
    """Convolve with the recorded kernel, mirrored border; None leaves the picture as it is."""
    if parameters is None:
        return image
    return cv2.filter2D(image, -1, build_kernel(parameters).astype(np.float32), borderType=cv2.BORDER_REFLECT_101)


def resize(image: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """OpenCV's resize to (height, width)."""
    return cv2.resize(image, size[::-1], interpolation=MODES[mode])


def resize_antialiased(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pillow's bicubic, stretched when shrinking, of a uint8 or float32 picture."""
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
    planes = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC) for plane in cv2.split(image)]
    return cv2.merge([np.asarray(plane) for plane in planes])


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(height, width) times a factor, rounded down, at least 1."""
    return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round to 8 bit."""
    return cv2.convertScaleAbs(image.clip(0, 1), alpha=255)


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [0, 1]."""
    return image.astype(np.float32) / 255


@dataclass(frozen=True)
class OpenCVDegradation:
    """One of the four models.

    Attributes:
        name: `bicubic`, `classical`, `bsrgan` or `real_esrgan`.
        scale: HQ side over LQ side.
        faces: degrade at a quarter and bring LQ back to the HQ grid, as `OnHQGrid` and `ClassicalFaces` do.
        without_noise: leave out all noise.
        without_jpeg: leave out all JPEG.
    """

    name: str
    scale: int = 4
    faces: bool = False
    without_noise: bool = False
    without_jpeg: bool = False

    def __call__(self, hq: np.ndarray, parameters: dict[str, Any]) -> np.ndarray:
        """Degrade one picture.

        Args:
            hq: (H, W, 3) uint8, BGR.
            parameters: what the model of the package drew.

        Returns:
            (H / scale, W / scale, 3) uint8, BGR.
        """
        parameters = parameters.get("degradation", {"parameters": parameters})["parameters"]  # of OnHQGrid
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
                    # filter2D correlates: a kernel that lies right and below looks right and below, against the phase
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
            # recorded for R, G, B
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
    """A Gaussian (side, side) moved towards higher indices by linear interpolation, its border values going on."""
    offsets = np.arange(side) - side // 2
    line = np.interp(offsets - shift, offsets, np.exp(-(offsets**2) / (2 * sigma**2)))
    kernel = np.outer(line, line)
    return (kernel / kernel.sum()).astype(np.float32)


def peer_of(model: Degradation, **without: bool) -> OpenCVDegradation:
    """The pipeline's model for one of the package's."""
    name = getattr(model, "degradation", model).name.removesuffix("_faces")
    return OpenCVDegradation(name, model.scale, model.name in ("on_hq_grid", "classical_faces"), **without)
