"""What a cluster's configuration says of its site."""

from __future__ import annotations

from dataclasses import fields

import pytest
from traitlets.config import Config

from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.offers import Site
from jupyter_remote_gpu.settings import RemoteGpu, Settings
from jupyter_remote_gpu.sites import read_site
from remote_gpu.errors import UsageProblem

WHOLE = {
    "country": "gb",
    "region": "GB-SCT",
    "internet": False,
    "data_classes": ["public", "personal"],
    "projects": ["climate"],
    "cost": 1.2,
    "currency": "GBP",
    "carbon": 41,
}


def test_all_that_can_be_said_is_read():
    site = read_site("Here", WHOLE)
    assert site == Site("GB", "GB-SCT", False, ("public", "personal"), ("climate",), 1.2, "GBP", 41.0)
    assert set(WHOLE) == {each.name for each in fields(Site)}


@pytest.mark.parametrize("nothing", [None, {}, {"country": "", "internet": None}])
def test_what_is_not_said_is_not_known(nothing):
    assert read_site("Here", nothing) == Site()


def test_a_region_says_its_country():
    assert read_site("Here", {"region": "CA-QC"}).country == "CA"


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ("GB", "`site` must be an object", "For example"),
        ({"contry": "GB"}, "a site has no 'contry'", "Did you mean 'country'?"),
        ({"xyz": 1}, "a site has no 'xyz'", "A site has country"),
        ({"country": "Britain"}, "the `country` of its site cannot be 'Britain'", "two letters"),
        ({"country": "UK"}, "there is no country 'UK'", "Did you mean 'GB'?"),
        ({"country": 44}, "the `country` of its site cannot be 44", "two letters"),
        ({"internet": "no"}, "the `internet` of its site cannot be 'no'", "true or false"),
        ({"data_classes": "public"}, "the `data_classes` of its site cannot be 'public'", "a list"),
        ({"projects": ["a", 3]}, "the `projects` of its site cannot be", "a list"),
        ({"projects": ["a\nb"]}, "the `projects` of its site cannot be", "a list"),
        ({"cost": -1, "currency": "GBP"}, "the `cost` of its site cannot be -1", "a number from 0"),
        ({"cost": True, "currency": "GBP"}, "the `cost` of its site cannot be True", "a number from 0"),
        ({"cost": float("nan"), "currency": "GBP"}, "the `cost` of its site cannot be nan", "a number from 0"),
        ({"cost": 1.0}, "a `cost` without a `currency`", "ISO 4217"),
        ({"carbon": 9000}, "the `carbon` of its site cannot be 9000", "grams"),
        ({"country": "GB", "region": "CA-QC"}, "is not in the country 'GB'", "begins with"),
    ],
)
def test_what_cannot_be_is_named_with_what_can(given, message, hint):
    with pytest.raises(UsageProblem) as caught:
        read_site("The cluster 'a'", given)
    assert message in str(caught.value)
    assert str(caught.value).startswith("The cluster 'a'")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("config", [{"kind": "local"}, {"kind": "ssh", "host": "box"}, {"kind": "slurm"}])
async def test_every_kind_of_cluster_knows_its_site(config, tmp_path):
    settings = Settings(clusters={}, clusters_file=tmp_path / "clusters.json")
    clusters = Clusters(settings)
    clusters.add("mine", {**config, "site": {"country": "CA"}})
    assert clusters.site("mine").country == "CA"
    assert clusters["mine"].name == "mine"
    with pytest.raises(UsageProblem, match="no 'contry'"):
        clusters.change("mine", {"site": {"contry": "CA"}})
    assert clusters.site("mine").country == "CA"
    await clusters.aclose()


def test_the_servers_configuration_is_checked_when_it_is_read():
    given = RemoteGpu(config=Config({"RemoteGpu": {"clusters": {"a": {"kind": "local", "site": {"contry": "GB"}}}}}))
    with pytest.raises(UsageProblem, match="cluster 'a': a site has no 'contry'"):
        given.freeze()


@pytest.mark.parametrize("url", ["ftp://x", "api.carbonintensity.org.uk", "https://me:secret@x/y"])
def test_a_source_of_carbon_figures_is_an_address(url):
    given = RemoteGpu(config=Config({"RemoteGpu": {"carbon_source": url}}))
    with pytest.raises(UsageProblem, match="carbon_source"):
        given.freeze()
