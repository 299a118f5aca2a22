"""Grows the phantom's tissue from a seed: cells, mitochondria and what looks like them, as fields on a coarse grid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dualrel_jax.data.phantom.geometry import STEP_NM, Grid, Placer, Tubes, walk

REACH_NM = 120.0  # distances to organelles are exact up to here


@dataclass(frozen=True)
class Tissue:
    """What the specimen is made of. Absorbance runs from 0 (empty resin) to 1 (the darkest stain)."""

    mito_fraction: float = 0.078  # of the volume
    mito_radius_nm: tuple[float, float] = (90.0, 200.0)
    mito_length_nm: tuple[float, float] = (300.0, 2400.0)
    matrix: tuple[float, float] = (0.38, 0.84)  # absorbance inside mitochondria, one level each
    crista_contrast: tuple[float, float] = (0.18, 0.42)
    crista_spacing_nm: tuple[float, float] = (48.0, 85.0)
    body_fraction: float = 0.028  # lysosomes and endosomes, of the volume
    body_radius_nm: tuple[float, float] = (65.0, 190.0)
    body_length_nm: tuple[float, float] = (30.0, 600.0)
    lysosome: tuple[float, float] = (0.55, 1.0)  # absorbance, one level each; dark, clumpy, without a rim
    endosome: tuple[float, float] = (0.05, 0.35)  # the same; pale, with a single membrane
    axon_radius_nm: float = 330.0  # of the myelinated axon without its sheath
    sheath_nm: float = 130.0  # thickness of the myelin
    lamella_nm: float = 30.0  # period of its layers: wider than in life, so that pixels of 10 nm resolve them
    families: tuple[int, int] = (5, 8)  # of wide and of thin cells
    cell_nm: tuple[float, float] = (450.0, 150.0)  # correlation lengths of the two
    cytoplasm: tuple[float, float] = (0.06, 0.30)  # absorbance, one level a family
    dark_cytoplasm: tuple[float, float] = (0.42, 0.55)  # the same for one family of wide cells, one of thin
    granularity: float = 0.10  # strength of the cytoplasm's texture
    membrane: float = 0.72
    synapses_per_um3: float = 2.0


@dataclass(frozen=True)
class Block:
    """A grown piece of tissue. Fields are `z y x` on the grid, float32, section z in plane z + 1; lengths in nm."""

    tissue: Tissue
    thickness_nm: float  # of a section
    cells: np.ndarray  # (families, z, y, x): the greatest names the cell; the last family is the myelinated axon
    signed_nm: np.ndarray  # (4, z, y, x): distance to mitochondria, bodies, axon, synapses; negative inside
    noise: np.ndarray  # (4, z, y, x), unit variance: endoplasmic reticulum, cytoplasm, course of cristae, their gaps
    owner: np.ndarray  # (3, z, y, x) int16: the nearest mitochondrion, body, synapse; -1 where none is near
    cytoplasm: np.ndarray  # (families,) absorbance
    mito: dict[str, np.ndarray]  # for each mitochondrion: matrix, contrast, spacing_nm, normal (n, 3), gap
    body: dict[str, np.ndarray]  # for each lysosome or endosome: level, clumps, rim
    receiver: np.ndarray  # (synapses,) family of the receiving cell
    vesicles_nm: np.ndarray  # (n, 3) centres
    vesicle_cell: np.ndarray  # (n,) family of the cell that holds each


def grow(
    tissue: Tissue,
    shape: tuple[int, int, int],
    voxel_nm: tuple[float, float, float],
    stream: Callable[[str], np.random.Generator],
) -> Block:
    """The tissue in a volume of `shape` (z, y, x); `stream(purpose)` gives a random generator for each purpose."""
    grid = Grid(shape, voxel_nm)
    axon = _axon(tissue, grid, stream("axon"))
    cells, run = _cells(tissue, grid, axon, stream("cells"))
    in_sheath = (axon > 0) & (axon < tissue.sheath_nm)
    clearance = np.where(axon > 0, axon - tissue.sheath_nm, -axon)
    placer = Placer(grid, np.where(in_sheath, len(cells), cells.argmax(0)), run, clearance)

    rng = stream("mitochondria")
    mito = placer.place(rng, tissue.mito_fraction, tissue.mito_radius_nm, tissue.mito_length_nm)
    mito_nm, mito_owner = grid.signed_distance(mito, REACH_NM)
    mito_nm += 14 * grid.noise(rng, 90)  # dents and bulges
    rng = stream("bodies")
    body = placer.place(rng, tissue.body_fraction, tissue.body_radius_nm, tissue.body_length_nm)
    body_nm, body_owner = grid.signed_distance(body, REACH_NM)
    body_nm += 22 * grid.noise(rng, 70)
    snug = np.clip(30 * grid.noise(stream("snug"), 150), -60, 14)
    _make_room(cells, ((mito, mito_nm + snug, mito_owner), (body, body_nm + snug, body_owner)))

    family, free = cells.argmax(0), np.minimum(mito_nm, body_nm)
    synapse, receiver = _synapses(tissue, grid, family, np.minimum(free, np.abs(axon)), stream("synapses"))
    synapse_nm, synapse_owner = grid.signed_distance(synapse, REACH_NM)
    vesicles, vesicle_cell = _vesicles(grid, stream("vesicles"), family, free, synapse=synapse, receiver=receiver)
    rng = stream("textures")
    return Block(
        tissue=tissue,
        thickness_nm=voxel_nm[0],
        cells=cells,
        signed_nm=np.stack([mito_nm, body_nm, axon, synapse_nm]),
        noise=np.stack([grid.noise(rng, length) for length in ((70, 50, 50), 300, 110, 60)]),
        owner=np.stack([mito_owner, body_owner, synapse_owner]),
        cytoplasm=_cytoplasm(tissue, len(cells), stream("cytoplasm")),
        mito=_interiors(tissue, mito, stream("interiors")),
        body=_contents(tissue, len(body), stream("contents")),
        receiver=receiver,
        vesicles_nm=vesicles,
        vesicle_cell=vesicle_cell,
    )


def _axon(tissue: Tissue, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Distance in nm to a myelinated axon that crosses the sections at a slant."""
    start = grid.size_nm * (0.5, *rng.uniform(0.2, 0.8, 2))
    direction = np.array([1.0, *rng.uniform(-0.5, 0.5, 2)])
    steps = int(grid.size_nm[0] / STEP_NM) + 20
    path = walk(grid, rng, start[None], direction[None], steps=steps, bend=0.04)[0]
    phase = np.arange(len(path)) * STEP_NM / 900 + rng.uniform(0, 2 * np.pi)
    radii = tissue.axon_radius_nm * (1 + 0.15 * np.sin(phase))
    tube = Tubes(path, radii, np.zeros(len(path), int), np.zeros(1, int))
    # Far enough for the largest mitochondrion to know that it is clear of the sheath.
    reach = tissue.sheath_nm + 1.3 * tissue.mito_radius_nm[1] + REACH_NM
    return grid.signed_distance(tube, reach)[0] + 35 * grid.noise(rng, 200)


def _cells(tissue: Tissue, grid: Grid, axon: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random fields whose maximum parts space into wide and thin cells; and the axis that each family follows."""
    run = rng.integers(3, size=sum(tissue.families))
    length = np.repeat(tissue.cell_nm, tissue.families)
    fields = [
        grid.noise(rng, s * np.where(np.arange(3) == axis, 2.2, 0.85)) for s, axis in zip(length, run, strict=True)
    ]
    fields.append(np.clip((tissue.sheath_nm + 12 - axon) / 4, -9, 9))
    return np.stack(fields), np.append(run, 0)


def _make_room(cells: np.ndarray, organelles) -> None:
    """Raises each cell's field around what it holds, so that no wall crosses an organelle."""
    for tubes, signed_nm, owner in organelles:
        pull = 5 * np.clip(1 - (signed_nm - 18) / 50, 0, 2)
        host = np.where(owner >= 0, tubes.host[owner], -1)
        for family, field in enumerate(cells):
            field += np.where(host == family, pull, 0)


def _interiors(tissue: Tissue, mito: Tubes, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """How each mitochondrion is stained and how its cristae lie: across it or along it."""
    ends = np.searchsorted(mito.owner, np.arange(len(mito) + 1))
    axis = mito.points_nm[ends[1:] - 1] - mito.points_nm[ends[:-1]]
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    across = axis + 0.2 * rng.standard_normal(axis.shape)
    along = np.cross(axis, rng.standard_normal(axis.shape))
    # Cristae across a tube that is cut across lie in the section, unseen: there the other kind is drawn.
    pick_along = (rng.random(len(mito)) < 0.45) | (np.abs(axis[:, 0]) > 0.8)
    normal = np.where(pick_along[:, None], along, across)
    return {
        "matrix": rng.uniform(*tissue.matrix, len(mito)),
        "contrast": rng.uniform(*tissue.crista_contrast, len(mito)),
        "spacing_nm": rng.uniform(*tissue.crista_spacing_nm, len(mito)),
        "normal": normal / np.linalg.norm(normal, axis=1, keepdims=True),
        "gap": rng.uniform(-2.2, -0.3, len(mito)),
    }


def _contents(tissue: Tissue, bodies: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """How lysosomes and endosomes are stained: their level, the strength of their clumps and of their membrane."""
    dark = rng.random(bodies) < 0.6
    level = np.where(dark, rng.uniform(*tissue.lysosome, bodies), rng.uniform(*tissue.endosome, bodies))
    return {"level": level, "clumps": rng.uniform(0.10, 0.19, bodies), "rim": np.where(dark, 0.0, 0.8)}


def _cytoplasm(tissue: Tissue, families: int, rng: np.random.Generator) -> np.ndarray:
    level = rng.uniform(*tissue.cytoplasm, families)
    level[[0, tissue.families[0]]] = rng.uniform(*tissue.dark_cytoplasm, 2)
    return level


def _synapses(tissue: Tissue, grid: Grid, family, free_nm, rng) -> tuple[Tubes, np.ndarray]:
    """Balls on walls between two cells, away from organelles, and the family of each one's receiving cell."""
    sender, receiver = family[:, :-1], family[:, 1:]
    z, y, x = np.nonzero((sender != receiver) & (np.minimum(free_nm[:, :-1], free_nm[:, 1:]) > 100))
    pick = rng.integers(len(z), size=int(np.ceil(tissue.synapses_per_um3 * grid.size_nm.prod() / 1e9)))
    points = np.stack([z, y + 0.5, x], axis=1)[pick] * grid.spacing_nm - grid.origin_nm
    ids = np.arange(len(pick))
    return Tubes(points, rng.uniform(110, 210, len(pick)), ids, ids), receiver[z, y, x][pick]


def _vesicles(grid: Grid, rng, family, free_nm, *, synapse: Tubes, receiver) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n, 3) in nm of vesicles, in clouds on the sending side of synapses or stray; and each one's cell."""
    cloud = np.repeat(np.arange(len(synapse)), rng.integers(300, 1800, len(synapse)))
    near = synapse.points_nm[cloud] + 200 * rng.standard_normal((len(cloud), 3))
    stray = rng.uniform(0, grid.size_nm, (int(12 * grid.size_nm.prod() / 1e9), 3))
    points, avoid = np.concatenate([near, stray]), np.append(receiver[cloud], np.full(len(stray), -1))
    node = grid.nearest(points)
    keep = grid.inside(points) & (family[node] != avoid) & (free_nm[node] > 60)
    return points[keep], family[node][keep]
