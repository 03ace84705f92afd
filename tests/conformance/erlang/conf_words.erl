%% How answers, lists and exits are written for the comparison.
-module(conf_words).
-export([result/2, exit_kind/1, listing/2, counts/1, join/1]).

result(ok, _) -> "ok";
result({ok, undefined}, _) -> "ignored";
result({ok, Pid}, Labels) when is_pid(Pid) -> ["up ", label(Pid, Labels)];
result({ok, Spec}, _) when is_map(Spec) -> ["spec ", maps:get(id, Spec)];
result(ignore, _) -> "ignored";
result({error, {shutdown, {failed_to_start_child, Id, _}}}, _) -> ["failed_to_start ", Id];
result({error, {already_started, Pid}}, Labels) -> ["already_started ", label(Pid, Labels)];
result({error, Word}, _)
  when Word =:= already_present; Word =:= running; Word =:= restarting;
       Word =:= not_found; Word =:= simple_one_for_one -> atom_to_list(Word);
result({error, _}, _) -> "start_failed";
result(noproc, _) -> "noproc";
result(List = [{_, _, _, _} | _], Labels) -> listing(List, Labels);
result([{specs, _} | _] = Counts, _) -> counts(Counts);
result([], _) -> "empty".

exit_kind(normal) -> "normal";
exit_kind(shutdown) -> "shutdown";
exit_kind({shutdown, _}) -> "shutdown";
exit_kind(killed) -> "killed";
exit_kind(_) -> "crashed".

listing(List, Labels) -> join([line(One, Labels) || One <- List]).

line({Id, undefined, _, _}, _) -> [id(Id), ":none"];
line({Id, restarting, _, _}, _) -> [id(Id), ":restarting"];
line({Id, Pid, _, _}, Labels) -> [id(Id), ":", label(Pid, Labels)].

id(undefined) -> "-";
id(Id) -> Id.

counts(Counts) ->
    [Specs, Active, Supervisors, Workers] =
        [proplists:get_value(Key, Counts) || Key <- [specs, active, supervisors, workers]],
    io_lib:format("~b.~b.~b.~b", [Specs, Active, Supervisors, Workers]).

label(Pid, Labels) -> maps:get(Pid, Labels, "stranger").

join([]) -> "empty";
join(Parts) -> lists:join(",", Parts).
