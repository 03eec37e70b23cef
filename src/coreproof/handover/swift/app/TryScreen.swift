// TryScreen: pick a photo, or a bundled sample, and see what the model makes of it.

import Observation
import PhotosUI
import SwiftUI

struct TryScreen: View {
    let plan: Plan
    @State private var trial = Trial()
    @State private var picked: PhotosPickerItem?
    @State private var sample: String?

    var body: some View {
        NavigationStack {
            ScrollView {
                VStack(spacing: 16) {
                    if let shot = trial.shot { ShotView(plan: plan, shot: shot) }
                    if trial.busy { ProgressView("The model is at work") }
                    if let problem = trial.problem { Message(title: "That did not work", text: problem) }
                }
                .padding()
                .frame(maxWidth: .infinity)
            }
            .navigationTitle(plan.title)
            .navigationBarTitleDisplayMode(.inline)
            .toolbar {
                ToolbarItemGroup(placement: .primaryAction) {
                    Menu {
                        ForEach(plan.samples) { entry in Button(entry.name) { sample = entry.name } }
                    } label: {
                        Label("Bundled samples", systemImage: "square.stack")
                    }
                    if plan.picture != nil {
                        PhotosPicker(selection: $picked, matching: .images) {
                            Label("Choose a photo", systemImage: "photo.badge.plus")
                        }
                    }
                }
            }
        }
        .task { await trial.first(plan) }
        .task(id: sample) {
            guard let entry = plan.samples.first(where: { $0.name == sample }) else { return }
            picked = nil
            await trial.show(entry, plan)
        }
        .task(id: picked) {
            guard let picked else { return }
            sample = nil
            await trial.show(picked, plan)
        }
    }
}

@MainActor @Observable
final class Trial {
    private(set) var shot: Shot?
    private(set) var problem: String?
    private(set) var busy = false
    @ObservationIgnored private var predictor: Predictor?
    @ObservationIgnored private var shown: PhotosPickerItem?
    @ObservationIgnored private var turn = 0

    func first(_ plan: Plan) async {
        guard shot == nil, !busy, let sample = plan.samples.first else { return }
        await show(sample, plan)
    }

    func show(_ sample: Plan.Sample, _ plan: Plan) async {
        shown = nil
        await show(plan) { try await $0.look(sample) }
    }

    func show(_ item: PhotosPickerItem, _ plan: Plan) async {
        // the screen asks again each time it comes back
        guard item != shown else { return }
        await show(plan) { predictor in
            guard let data = try await item.loadTransferable(type: Data.self) else {
                throw Failure("The photo could not be loaded from the library.")
            }
            return try await predictor.look(data)
        }
        shown = item
    }

    private func show(_ plan: Plan, _ look: (Predictor) async throws -> Shot) async {
        turn += 1
        let mine = turn
        busy = true
        problem = nil
        defer { if mine == turn { busy = false } }
        do {
            let ready: Predictor
            if let predictor { ready = predictor } else { ready = try await Predictor(plan) }
            predictor = ready
            let made = try await look(ready)
            // a slow photo does not push aside what was chosen after it
            if mine == turn { shot = made }
        } catch {
            if mine == turn, !(error is CancellationError) { problem = error.localizedDescription }
        }
    }
}

/// What the model saw and what it answered, as fits its kind.
struct ShotView: View {
    let plan: Plan
    let shot: Shot

    var body: some View {
        switch plan.kind {
        case .classifier:
            seen
            TopClasses(plan: plan, answer: shot.answer)
        case .image:
            seen
            Image(systemName: "arrow.down").accessibilityHidden(true)
            RasterView(raster: made, label: "The picture that the model made")
        case .detector:
            BoxesView(plan: plan, shot: shot)
        case .array:
            seen
            OutputTable(answer: shot.answer)
        }
    }

    @ViewBuilder
    private var seen: some View {
        if let raster = shot.seen { RasterView(raster: raster, label: "The picture as the model sees it") }
    }

    private var made: Raster? {
        if let picture = shot.answer.picture { return picture }
        return plan.outputs.lazy.compactMap { Planes.picture(shot.answer.outputs[$0.name] ?? [], shape: $0.shape) }.first
    }
}
