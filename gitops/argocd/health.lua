-- The health of an EvaluationRun, for argocd-cm's
-- resource.customizations.health.lmms-eval.io_EvaluationRun.
-- Healthy: a release may rely on its scores. docs/guides/gitops.md has the whole table.

local function health(status, message)
  return {status = status, message = message}
end

local status = obj.status
if status == nil or status.conditions == nil then
  return health("Progressing", "the operator has not seen it yet")
end
if (status.observedGeneration or 0) < (obj.metadata.generation or 0) then
  return health("Progressing", "the operator has not seen the last change yet")
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local function is(kind, wanted)
  return conditions[kind] ~= nil and conditions[kind].status == wanted
end

local function message(kind)
  return conditions[kind] ~= nil and conditions[kind].message or ""
end

if is("Failed", "True") then
  return health("Degraded", conditions["Failed"].reason .. ": " .. message("Failed"))
end
if is("Complete", "True") then
  if is("Trusted", "False") then
    return health("Degraded", "not trusted: " .. message("Trusted"))
  end
  -- A gate that could not decide has not let it pass.
  if conditions["Passed"] ~= nil and not is("Passed", "True") then
    return health("Degraded", "not passed: " .. message("Passed"))
  end
  return health("Healthy", message("Complete"))
end
if is("Suspended", "True") then
  return health("Suspended", message("Suspended"))
end
-- What a person has to mend may mend itself with the next object of the same sync, such as a
-- Benchmark that is applied after its run. If it does not, the run fails in time.
if is("Stalled", "True") then
  return health("Progressing", "waits for a person: " .. message("Stalled"))
end
return health("Progressing", message("Ready"))
