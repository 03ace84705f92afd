"""How a holiday goes, and how it is taken back; green when the saga is written."""

from holiday import BookFlight, BookRoom, Holiday, RentCar, Wish

from actors.testing.cases.sagas import SagaTest


def begun() -> SagaTest[Wish]:
    return SagaTest(Holiday).start(Wish("h-1")).expect_command(BookFlight).reply()


def test_all_of_it_is_booked() -> None:
    begun().expect_command(BookRoom).reply().expect_command(RentCar).reply().expect_status(
        "completed"
    )


def test_without_a_car_all_is_taken_back_last_first() -> None:
    (
        begun()
        .expect_command(BookRoom)
        .reply()
        .expect_command(RentCar)
        .refuse("there is none")
        .expect_undo("room")
        .reply()
        .expect_undo("flight")
        .reply()
        .expect_status("failed", "there is none")
    )


def test_a_room_that_nobody_answers_for_is_cancelled_too() -> None:
    (
        begun()
        .expect_command(BookRoom)
        .advance(6)
        .expect_undo("room")
        .reply()
        .expect_undo("flight")
        .reply()
        .expect_status("failed")
    )
