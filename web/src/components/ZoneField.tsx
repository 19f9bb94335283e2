import { useId, useState } from "preact/hooks";
import { setZone, usePreferences } from "../preferences";
import { browserZone, isZone, zones } from "../time";

/** The zone that times are shown in, on every page. */
export function ZoneField() {
  const { zone } = usePreferences();
  const [typed, setTyped] = useState<string | null>(null);
  const [all, setAll] = useState<string[]>([]);
  const id = useId();
  const wrong = typed !== null && !isZone(typed);
  return (
    <div class="zone-field">
      <label for={id}>Times in</label>
      <input
        id={id}
        list={`${id}-zones`}
        value={typed ?? zone}
        spellcheck={false}
        aria-invalid={wrong}
        onFocus={() => all.length === 0 && setAll(zones())}
        onInput={(event) => {
          const text = event.currentTarget.value;
          setTyped(text);
          if (isZone(text)) setZone(text);
        }}
        onBlur={() => setTyped(null)}
      />
      <datalist id={`${id}-zones`}>
        {all.map((one) => <option key={one} value={one} />)}
      </datalist>
      {zone !== browserZone() && (
        <button type="button" class="link" onClick={() => setZone(browserZone())}>Use {browserZone()}</button>
      )}
    </div>
  );
}
