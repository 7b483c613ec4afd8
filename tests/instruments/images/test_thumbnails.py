import numpy as np
import torch

from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.images.thumbnails import Album, crop, picture_size, thumbnails


def batch(indices, images):
    return Batch(np.array(indices), images, np.full(len(indices), -1), np.ones(len(indices), bool))


def test_a_thumbnail_averages_areas():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, :2, :2] = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert thumbnails(image, (2, 2)).tolist() == [[[[128, 0], [0, 0]]]]


def test_pictures_are_as_large_as_the_images_until_there_are_too_many():
    assert picture_size((3, 64, 64), 100) == (3, 64, 64)
    assert picture_size((3, 64, 64), 100, side=32) == (3, 32, 32)
    assert picture_size((3, 48, 96), 10, side=48) == (3, 24, 48)
    channels, high, wide = picture_size((3, 227, 227), 27000)
    assert channels * high * wide * 27000 <= 128 * 2**20
    assert high >= 32


def test_what_lies_outside_the_image_is_grey():
    image = torch.arange(16.0).reshape(1, 4, 4)
    cut = crop(image, ((-1, 1), (2, 4)))
    assert cut.tolist() == [[[0.5, 0.5, 0.5], [2, 3, 0.5], [6, 7, 0.5]]]


def test_an_album_gives_every_list_its_pictures():
    images = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 2, 2) / 255
    lists = {"a": np.array([[3, 1], [5, -1]]), "b": np.array([[1, 1]])}
    album = Album(lists, (1, 2, 2))
    assert album.images().tolist() == [1, 3, 5]
    made = list(album.fill([batch([1, 3], images[[1, 3]]), batch([5], images[[5]])]))
    assert [one.count for one in made] == [2, 1]
    assert album.rows("a", slice(0, 2))[:, :, 0, 0, 0].tolist() == [[3, 1], [5, 255]]
    assert album.rows("a", slice(1, 2))[:, :, 0, 0, 0].tolist() == [[5, 255]]
    assert album.rows("b", slice(0, 1))[:, :, 0, 1, 1].tolist() == [[1, 1]]
    album.close()


def test_signals_are_kept_as_they_are():
    signals = torch.tensor([[[-3.0, 1.0, 5.0, 7.0]]])
    assert thumbnails(signals, (4,)).tolist() == signals.tolist()
    assert thumbnails(signals, (2,)).tolist() == [[[-1.0, 6.0]]]  # means of neighbours
    assert picture_size((8, 500), 100) == (8, 500)
    channels, samples = picture_size((64, 10000), 1000)
    assert channels == 64 and channels * samples * 1000 * 4 <= 128 * 2**20
    assert np.array_equal(crop(signals[0], ((2, 5),)), [[5, 7, np.nan, np.nan]], equal_nan=True)


def test_an_album_of_signals_keeps_every_value():
    signals = torch.tensor([[[-2.0, 0.5]], [[3.0, 4.0]]])
    album = Album({"a": np.array([[1, 0, -1]])}, (1, 2))
    list(album.fill([batch([0, 1], signals)]))
    expected = [[[[3.0, 4.0]], [[-2.0, 0.5]], [[np.nan, np.nan]]]]
    assert np.array_equal(album.rows("a", slice(0, 1)), expected, equal_nan=True)
    album.close()
