"""Section of the report on movies: how the conformation goes through each, and what rates that tells."""

import math

import numpy as np
import plotly.graph_objects as go

from cryoloom.errors import InputError
from cryoloom.evaluate.trajectories import Rates, Trajectory, model, rates, trajectories
from cryoloom.report.contents import RunContents
from cryoloom.report.figures import PALETTE, plain_figure
from cryoloom.report.page import Page
from cryoloom.solve.trained import read_latents

# Movies whose trajectories are drawn: more would be a thicket.
SHOWN = 6
# Relaxation times up to this many times the longest movie are told.
LONGEST = 3


def movies(run: RunContents, page: Page) -> None:
    """Trajectories with their widths, mean squared displacement, rates; nothing where there are no movies of z."""
    particles = run.particles
    if particles is None or not particles.has_movies or not (run.folder / "latents.npz").is_file():
        return
    try:
        latents = read_latents(run.folder)
    except InputError:
        return
    if len(latents.mean) != len(particles) or not float(latents.mean.std(0).max()) > 0:
        return
    arrays = latents.mean.numpy(), latents.log_var.numpy()
    found = trajectories(*arrays, particles.column("frame"), particles.movies())
    told = rates(list(found.values()))
    first = page.plot("trajectories", trajectory_figure(dict(list(found.items())[:SHOWN])))
    second = page.plot("displacement", displacement_figure(told))
    plots = f'<div class="row two"><div class="card">{first}</div><div class="card">{second}</div></div>'
    lead = (
        f"{len(found):,} movies. Latent along its first principal component, frame by frame, with its standard "
        "deviation; beside it the mean squared displacement of all movies about their common drift, with the "
        "Ornstein–Uhlenbeck process, seen with noise, that fits best. Maps of a movie: "
        "<code>cryoloom volumes RUN --movie NAME</code>."
    )
    page.section("movies", "Movies", lead, plots + _table(told))


def _table(told: Rates) -> str:
    rows = {
        "drift, latent a frame": told.drift,
        "frames on one side of the median, mean": told.dwell,
        "diffusion, latent² a frame": told.diffusion,
        # A time much longer than any movie is no finding.
        "relaxation, frames": told.relaxation if told.relaxation < LONGEST * told.lags.max(initial=0) else math.nan,
        "noise of a frame's latent, standard deviation": math.sqrt(told.noise) if told.noise >= 0 else math.nan,
    }
    cells = "".join(f"<tr><td>{name}</td><td>{v:.3g}</td></tr>" for name, v in rows.items() if math.isfinite(v))
    return f'<div class="card"><table>{cells}</table></div>'


def trajectory_figure(shown: dict[str, Trajectory]) -> go.Figure:
    """One line a movie, and a band of one standard deviation about it."""
    figure = plain_figure(340, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    for i, (name, movie) in enumerate(shown.items()):
        colour = PALETTE[i % len(PALETTE)]
        around = np.concatenate([movie.frame, movie.frame[::-1]])
        band = np.concatenate([movie.mean + movie.sigma, (movie.mean - movie.sigma)[::-1]])
        figure.add_scatter(
            x=around, y=band, fill="toself", fillcolor=colour, opacity=0.12, line={"width": 0},
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_scatter(x=movie.frame, y=movie.mean, name=name, mode="lines+markers", line={"color": colour})
    figure.update_xaxes(title="frame")
    figure.update_yaxes(title="latent")
    return figure


def displacement_figure(told: Rates) -> go.Figure:
    """Mean squared displacement by lag, and the process that fits it."""
    figure = plain_figure(340, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    figure.add_scatter(x=told.lags, y=told.displacement, mode="markers", name="movies", marker={"color": PALETTE[0]})
    if math.isfinite(told.relaxation):
        lags = np.linspace(0, float(told.lags[-1]), 100)
        fitted = model(lags, told.noise, told.variance, told.relaxation)
        figure.add_scatter(x=lags, y=fitted, mode="lines", name="fit", line={"color": PALETTE[1]})
    figure.update_xaxes(title="lag, frames", rangemode="tozero")
    figure.update_yaxes(title="mean squared displacement about the drift", rangemode="tozero")
    return figure
